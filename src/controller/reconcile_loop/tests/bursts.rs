//! Tests of what comes in the quiet time that ends a burst.

use super::*;

#[tokio::test(start_paused = true)]
async fn reading_the_cloud_delays_no_port_in_the_quiet_time() {
    let TestLoop { cloud, reconciler, context, .. } = TestLoop::new(2, QUIET / 4, Duration::ZERO);
    context.index.update(|index| index.reset(Watch::Pods, vec![pod(0, false)]));
    let is_open = || !cloud.resources().reach(&InstanceId::new("i-1")).rules.is_empty();
    let story = async {
        sleep(Duration::from_secs(10)).await;
        context.index.update(|index| index.apply(&Watch::Pods, pod(1, false)));
        sleep(Duration::from_millis(199)).await;
        assert!(!is_open(), "more may come");
        sleep(Duration::from_millis(5)).await;
        assert!(is_open());
    };
    tokio::select! {
        () = CloudLoop::new(reconciler, context.clone()).run() => panic!("it ended"),
        () = story => {}
    }
}

#[tokio::test(start_paused = true)]
async fn plan_that_its_burst_overtakes_changes_nothing() {
    let TestLoop { cloud, reconciler, context, reads } = TestLoop::new(3, Duration::ZERO, Duration::ZERO);
    context.index.update(|index| index.reset(Watch::Pods, vec![pod(0, false)]));
    let open = || {
        [1, 2].map(|node| !cloud.resources().reach(&InstanceId::new(format!("i-{node}"))).rules.is_empty())
    };
    let story = async {
        sleep(Duration::from_secs(10)).await;
        context.index.update(|index| index.apply(&Watch::Pods, pod(1, false)));
        sleep(QUIET * 3 / 4).await;
        assert_eq!(reads.all(), 2, "it has been planned");
        context.index.update(|index| index.delete(&Watch::Pods, &pod(1, false).name()));
        context.index.update(|index| index.apply(&Watch::Pods, pod(2, false)));
        for _ in 0..9 {
            sleep(LOOK).await;
            assert_eq!(open(), [false, false], "the burst goes on");
        }
        sleep(LOOK * 3).await;
        assert_eq!(open(), [false, true]);
    };
    tokio::select! {
        () = CloudLoop::new(reconciler, context.clone()).run() => panic!("it ended"),
        () = story => {}
    }
}

#[tokio::test(start_paused = true)]
async fn burst_that_overtakes_its_plan_is_one_plan_more() {
    let TestLoop { cloud, reconciler, context, reads } = TestLoop::new(30, Duration::ZERO, Duration::ZERO);
    context.index.update(|index| index.reset(Watch::Pods, vec![pod(0, false)]));
    let story = async {
        sleep(Duration::from_secs(10)).await;
        // Each change comes when the plan for those before it has been made.
        for number in 1..30 {
            context.index.update(|index| index.apply(&Watch::Pods, pod(number, false)));
            sleep(QUIET * 3 / 4).await;
        }
        assert!(!cloud.resources().reach(&InstanceId::new("i-13")).rules.is_empty(), "none waits longer");
        sleep(Duration::from_secs(1)).await;
        assert_eq!(cloud.resources().len(), 60);
        assert_eq!(reads.all(), 1 + 2 + 2 + 1, "two bursts of two seconds, and what came after them");
    };
    tokio::select! {
        () = CloudLoop::new(reconciler, context.clone()).run() => panic!("it ended"),
        () = story => {}
    }
}

#[tokio::test(start_paused = true)]
async fn change_while_the_cloud_is_read_drops_no_plan() {
    let takes = Duration::from_secs(5);
    let TestLoop { cloud, reconciler, context, .. } = TestLoop::new(3, takes, Duration::ZERO);
    context.index.update(|index| index.reset(Watch::Pods, vec![pod(0, false)]));
    let story = async {
        sleep(Duration::from_secs(10)).await;
        context.index.update(|index| index.apply(&Watch::Pods, pod(1, false)));
        sleep(Duration::from_secs(1)).await;
        context.index.update(|index| index.apply(&Watch::Pods, pod(2, false)));
        sleep(Duration::from_millis(4_200)).await;
        assert!(!cloud.resources().reach(&InstanceId::new("i-1")).rules.is_empty());
    };
    tokio::select! {
        () = CloudLoop::new(reconciler, context.clone()).run() => panic!("it ended"),
        () = story => {}
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_is_changed_after_a_signal_in_the_quiet_time() {
    let TestLoop { cloud, reconciler, context, .. } = TestLoop::new(2, Duration::ZERO, Duration::ZERO);
    context.index.update(|index| index.reset(Watch::Pods, vec![pod(0, false)]));
    let story = async {
        sleep(Duration::from_secs(10)).await;
        context.index.update(|index| index.apply(&Watch::Pods, pod(1, false)));
        sleep(QUIET * 3 / 4).await;
        context.stop.cancel();
    };
    tokio::join!(CloudLoop::new(reconciler, context.clone()).run(), story);
    assert!(cloud.resources().reach(&InstanceId::new("i-1")).rules.is_empty());
}
