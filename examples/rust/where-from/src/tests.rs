//! Both halves, without a checkpoint.

use super::{Half, dmtcp_plugin_v1};
use dmtcp_plugin_api::restart::Process;
use dmtcp_plugin_test::{FakeCore, FakeRestarter};

#[test]
fn another_machine_is_named() {
    let core = FakeCore::new(&dmtcp_plugin_v1);
    let image = core.checkpoint(&[]);
    core.resume();

    let mut here = FakeRestarter::new();
    let index = here.process(Process::default(), &image);
    assert_eq!(here.check::<Half>(), Vec::<String>::new());
    here.create::<Half>().unwrap();
    assert_eq!(here.warnings(), Vec::<String>::new());
    assert!(here.explain::<Half>(index).starts_with("checkpointed on "));

    let mut foreign = image.clone();
    foreign.sections = vec![("origin".into(), br#"{"host":"elsewhere"}"#.to_vec())];
    let mut there = FakeRestarter::new();
    there.process(Process::default(), &foreign);
    there.create::<Half>().unwrap();
    assert!(there.warnings()[0].contains("was checkpointed on elsewhere"), "{:?}", there.warnings());
}

#[test]
fn an_image_without_the_section_is_refused() {
    let mut restarter = FakeRestarter::new();
    restarter.process(Process::default(), &Default::default());
    assert_eq!(restarter.check::<Half>(), ["the image does not say where it was made"]);
}
