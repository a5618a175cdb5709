//! Images that are made here by hand, restarted by the real program: no application and no core are needed for them.
//!
//! The restored "core" is a few instructions: `enter_task` adds up a range of memory that its slot describes, compares
//! the sum with the right one, and when all tasks have done so, the first one writes a line and exits with 42.

mod fabricate;

use fabricate::{Fabric, MISMATCH, OK};

fn exit_code(outcome: &std::process::Output) -> (Option<i32>, String) {
    let text = String::from_utf8_lossy(&outcome.stdout).into_owned() + &String::from_utf8_lossy(&outcome.stderr);
    (outcome.status.code(), text)
}

#[test]
fn one_thread_comes_back_eager_and_lazy() {
    let fabric = Fabric::new("one").data(3 << 20);
    for flags in [&[][..], &["--lazy", "-q"]] {
        let (code, text) = exit_code(&fabric.restart(flags, &[]));
        assert_eq!((code, text.trim()), (Some(OK), "alive"), "{flags:?}");
    }
    let (_, text) = exit_code(&fabric.restart(&["--lazy"], &[]));
    assert!(text.contains("memory is not compared with its checksums"), "{text}");
}

#[test]
fn many_threads_come_back_through_the_stub() {
    let fabric = Fabric::new("many").data(1 << 20).threads(200);
    let (code, text) = exit_code(&fabric.restart(&[], &[]));
    assert_eq!((code, text.trim()), (Some(OK), "alive"));
}

#[test]
fn a_first_thread_that_had_ended_ends_again() {
    let fabric = Fabric::new("leaderless").data(1 << 20).threads(3).first_ended();
    let (code, text) = exit_code(&fabric.restart(&[], &[]));
    assert_eq!((code, text.trim()), (Some(OK), "alive"));
}

#[test]
fn memory_comes_back_when_the_vdso_may_not_be_moved() {
    let fabric = Fabric::new("vdso").data(1 << 20).vdso();
    for forbid in ["", "vdso_move", "mm_exe", "mm_map"] {
        let (code, text) = exit_code(&fabric.restart(&[], &[("DMTCP_FORBID", forbid)]));
        assert_eq!((code, text.trim()), (Some(OK), "alive"), "{forbid}");
    }
}

#[test]
fn huge_reservations_and_sparse_regions_are_cheap() {
    let fabric = Fabric::new("huge").data(1 << 20).reservation(8 << 40).sparse(1 << 40);
    let before = std::time::Instant::now();
    let (code, text) = exit_code(&fabric.restart(&[], &[]));
    assert_eq!((code, text.trim()), (Some(OK), "alive"));
    assert!(before.elapsed().as_secs() < 5, "{:?}", before.elapsed());
}

#[test]
fn a_damaged_image_is_refused_by_its_address() {
    let fabric = Fabric::new("damaged").data(1 << 20);
    fabric.damage();
    let (code, text) = exit_code(&fabric.restart(&[], &[]));
    assert_eq!(code, Some(99));
    assert!(text.contains("does not match its checksum"), "{text}");
    let (code, _) = exit_code(&fabric.restart(&["--verify"], &[]));
    assert_eq!(code, Some(99));
    let (code, _) = exit_code(&fabric.restart(&[], &[("DMTCP_FAIL_RC", "7")]));
    assert_eq!(code, Some(7));
}

#[test]
fn the_original_program_is_executed_where_the_kernel_lets_nobody_name_it() {
    for fabric in [
        Fabric::new("exec").data(3 << 20).threads(20).vdso(),
        Fabric::new("execended").data(4096).threads(3).first_ended(),
    ] {
        for flags in [&[][..], &["--lazy", "-q"], &["--pid-namespace", "force"]] {
            let (code, text) = exit_code(&fabric.restart(flags, &[("DMTCP_FORBID", "mm_exe")]));
            assert_eq!((code, text.trim()), (Some(OK), "alive"), "{flags:?}");
        }
    }
}

#[test]
fn a_namespace_carries_the_exit_status() {
    let fabric = Fabric::new("namespace").data(1 << 20).threads(4);
    let (code, text) = exit_code(&fabric.restart(&["--pid-namespace", "force"], &[]));
    assert_eq!((code, text.trim()), (Some(OK), "alive"));
}

#[test]
fn wrong_memory_would_be_noticed() {
    let fabric = Fabric::new("wrong").data(1 << 20).wrong_sum();
    let (code, _) = exit_code(&fabric.restart(&[], &[]));
    assert_eq!(code, Some(MISMATCH));
}

#[test]
fn bad_command_lines_and_images_fail_with_99() {
    let fabric = Fabric::new("bad").data(4096);
    for arguments in [&["--no-such-flag"][..], &["core"], &["/nowhere/x.dmtcp"], &[]] {
        let (code, text) = exit_code(&fabric.plain(arguments));
        assert_eq!(code, Some(99), "{arguments:?}: {text}");
        assert!(!text.is_empty());
    }
    let (code, _) = exit_code(&fabric.restart(&["--check"], &[]));
    assert_eq!(code, Some(0));
}

#[test]
fn a_family_comes_back_from_images_in_any_order() {
    let fabric = Fabric::new("family").data(1 << 20).threads(3).family(4);
    for (flags, forbid, order) in [
        (&[][..], "", [0, 1, 2, 3]),
        (&["--lazy"], "", [3, 1, 2, 0]),
        (&["--pid-namespace=force"], "", [1, 0, 3, 2]),
        (&[], "mm_exe", [2, 3, 1, 0]),
    ] {
        let (code, text) = exit_code(&fabric.restart_images(flags, &[("DMTCP_FORBID", forbid)], &order));
        assert_eq!((code, text.matches("alive").count()), (Some(OK), 4), "{flags:?} {forbid}: {text}");
    }
}

#[test]
fn images_that_are_no_family_are_refused() {
    let fabric = Fabric::new("strangers").data(4096).family(3);
    let (code, text) = exit_code(&fabric.restart_images(&[], &[], &[0, 1, 1, 2]));
    assert!(code == Some(99) && text.contains("same process"), "{text}");
    // Without --join-coordinator nobody else can bring the third one.
    let given = [0, 2].map(|process| fabric.image_of(process).display().to_string());
    let (code, text) = exit_code(&fabric.plain(&[&given[0], &given[1]]));
    assert!(code == Some(99) && text.contains("3 processes, and 2 images"), "{text}");
}

#[test]
fn one_damaged_image_keeps_the_whole_family_from_coming_back() {
    let fabric = Fabric::new("infected").data(1 << 20).family(3);
    fabric.damage();
    for (flags, forbid) in [(&[][..], ""), (&["--pid-namespace=force"], ""), (&[], "mm_exe")] {
        let (code, text) = exit_code(&fabric.restart_images(flags, &[("DMTCP_FORBID", forbid)], &[0, 1, 2]));
        assert_eq!((code, text.matches("alive").count()), (Some(99), 0), "{flags:?} {forbid}: {text}");
        assert!(text.contains("ckpt_fabric_3"), "{text}");
    }
}

#[test]
#[ignore = "takes a gigabyte of memory and of disk; prints rates"]
fn a_gigabyte_comes_back_in_time() {
    let fabric = Fabric::new("gigabyte").data(1 << 30).summed(1 << 20).threads(4);
    let small = Fabric::new("small").data(1 << 20);
    for (name, fabric, flags) in
        [("1 MiB", &small, &[][..]), ("1 GiB eager", &fabric, &[]), ("1 GiB lazy", &fabric, &["--lazy"])]
    {
        for _ in 0..4 {
            let (outcome, time) = fabric.timed(flags);
            assert_eq!(exit_code(&outcome).0, Some(OK));
            println!("{name}: {time:?} from the start to the process' end");
        }
    }
}
