//! The build context of the image.

use std::path::Path;

#[test]
fn image_context_contains_every_workspace_crate() {
    let read = |name: &str| {
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).expect("it can be read")
    };
    let manifest = read("Cargo.toml");
    let (_, members) = manifest.split_once("members = [").expect("the workspace's members");
    let (members, _) = members.split_once(']').expect("their end");
    let members: Vec<&str> = members.split(',').map(|member| member.trim().trim_matches('"')).collect();
    assert!(members.len() > 3, "{members:?}");
    let ignored = read(".dockerignore");
    for line in ignored.lines().filter(|line| !line.starts_with('#')) {
        assert!(line.starts_with('/') && !line.contains('*'), "{line}: this test reads plain paths only");
        let inside = |member: &&&str| Path::new("/").join(member).starts_with(line);
        assert_eq!(members.iter().find(inside), None, "{line}");
    }
}
