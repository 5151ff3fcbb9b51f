//! Measures the watch client.
//!
//!     watch-bench decode LIST.json LIST.pb   what one pod costs, from a recorded streaming list, in each way
//!     watch-bench list          the time and the memory until everything has been listed once
//!     watch-bench follow SECONDS   the same, then the CPU time while it follows changes

#![allow(dead_code, unused_imports, unreachable_pub)]

mod k8s;

use std::alloc::{GlobalAlloc, Layout, System};
use std::hint::black_box;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::StreamExt;
use k8s::index::shared_index::SharedIndex;
use k8s::index::{Index, Watch};
use k8s::objects::Pod;
use k8s::watcher::progress::Progress;
use kube::core::{DeserializeGuard, WatchEvent};

/// The system's allocator, counting.
struct Counting;

static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call is handed on unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        unsafe { System.dealloc(pointer, layout) }
    }
    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[tokio::main]
async fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["decode", json, protobuf] => decode(json, protobuf).await,
        ["list"] => follow(0).await,
        ["follow", seconds] => follow(seconds.parse().expect("a number")).await,
        _ => panic!("usage: watch-bench decode FRAMES.json FRAMES.pb | list | follow SECONDS"),
    }
}

/// Reads a recorded streaming list of pods again and again, in each way.
async fn decode(json: &str, protobuf: &str) {
    let [json, protobuf] = [json, protobuf].map(|file| Bytes::from(std::fs::read(file).expect("a recorded list")));
    let lines: Vec<&[u8]> = json.split(|byte| *byte == b'\n').filter(|line| line.starts_with(br#"{"type":"ADDED""#)).collect();
    let pods = lines.len();
    println!("{pods} pods of {} B in JSON, {} B in Protocol Buffers", json.len() / pods, protobuf.len() / pods);
    let mut best = [(Duration::MAX, 0); 3];
    for _ in 0..10 {
        let (began, allocated) = (Instant::now(), ALLOCATIONS.load(Ordering::Relaxed));
        for line in &lines {
            let event: WatchEvent<DeserializeGuard<Pod>> = serde_json::from_slice(line).expect("a pod");
            black_box(event);
        }
        best[0] = best[0].min((began.elapsed(), ALLOCATIONS.load(Ordering::Relaxed) - allocated));
        for (which, kind, body) in [(1, "application/json", &json), (2, "application/vnd.kubernetes.protobuf", &protobuf)] {
            let client = replay(kind, body.clone());
            let (began, allocated) = (Instant::now(), ALLOCATIONS.load(Ordering::Relaxed));
            let index = SharedIndex::new(Index::expecting([Watch::Pods]));
            let watching = tokio::spawn(k8s::watcher::watch_cluster(client, index.clone(), None));
            let mut changes = index.clone();
            while index.read().pods().next().is_none() {
                changes.changed().await;
            }
            best[which] = best[which].min((began.elapsed(), ALLOCATIONS.load(Ordering::Relaxed) - allocated));
            watching.abort();
        }
    }
    for (name, (time, allocations)) in ["DeserializeGuard, one event by itself", "the client, JSON", "the client, Protocol Buffers"].iter().zip(best) {
        println!(
            "{name}: {:.2} µs and {:.1} allocations a pod; 1/{:.1} of the time",
            time.as_secs_f64() * 1e6 / pods as f64,
            allocations as f64 / pods as f64,
            best[0].0.as_secs_f64() / time.as_secs_f64()
        );
    }
}

/// Returns a client of a server in process that answers requests for pods by a recorded list.
fn replay(content_type: &'static str, body: Bytes) -> kube::Client {
    let handle = move |request: axum::extract::Request| {
        let body = body.clone();
        async move {
            let response = axum::response::Response::builder().header("content-type", content_type);
            if request.uri().path() != "/api/v1/pods" {
                return response.status(503).body(axum::body::Body::empty()).expect("a response");
            }
            let chunks = (0..body.len()).step_by(1 << 16).map(move |at| Ok::<_, std::io::Error>(body.slice(at..body.len().min(at + (1 << 16)))));
            let stream = futures::stream::iter(chunks).chain(futures::stream::pending());
            response.body(axum::body::Body::from_stream(stream)).expect("a response")
        }
    };
    kube::Client::new(axum::Router::new().fallback(handle), "default")
}

/// Lists everything, then follows the changes.
async fn follow(seconds: u64) {
    let client = k8s::connect::connect().await.expect("a cluster");
    let began = Instant::now();
    let index = SharedIndex::new(Index::expecting(k8s::watcher::expected_watches(None)));
    let progress = Progress::default();
    tokio::spawn(k8s::watcher::watch_with_progress(client, index.clone(), None, progress.clone()));
    k8s::first_list::wait_for_first_list(&index).await;
    println!("listed in {:.2} s: {progress}; {} pods held", began.elapsed().as_secs_f64(), index.read().pods().count());
    report();
    if seconds > 0 {
        let before = cpu_seconds();
        tokio::time::sleep(Duration::from_secs(seconds)).await;
        println!("followed for {seconds} s: {:.2} s of CPU; {} pods held", cpu_seconds() - before, index.read().pods().count());
        report();
    }
}

fn report() {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    for line in status.lines().filter(|line| line.starts_with("VmHWM") || line.starts_with("VmRSS")) {
        println!("{line}");
    }
    println!("CPU so far: {:.2} s", cpu_seconds());
}

/// Returns the CPU time that the process has taken.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("Linux");
    let fields: Vec<&str> = stat.rsplit(") ").next().expect("fields").split(' ').collect();
    let ticks: f64 = fields[11].parse::<f64>().expect("a number") + fields[12].parse::<f64>().expect("a number");
    ticks / 100.0
}
