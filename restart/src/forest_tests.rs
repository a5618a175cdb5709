//! Plans of small families.

use super::*;

fn member(pid: i32, ppid: i32, pgid: i32, sid: i32) -> Member {
    Member { pid, ppid, pgid, sid, ..Member::default() }
}

/// The plan as text: `pid[ s: leads a session, g: leads a group, >N: joins N](before | after)`.
fn show(forest: &Forest) -> String {
    fn list(forest: &Forest, nodes: &[usize]) -> String {
        nodes.iter().map(|node| one(forest, *node)).collect::<Vec<_>>().join(" ")
    }
    fn one(forest: &Forest, node: usize) -> String {
        let node = &forest.nodes[node];
        let mut text = node.pid.map_or("-".into(), |pid| pid.to_string());
        match node.role {
            Role::Process(_) => {}
            Role::Ended(status) => text += &format!("!{status}"),
            Role::Passing => text += "~",
        }
        match (node.session, node.group) {
            (true, _) => text += "s",
            (false, Group::Lead) => text += "g",
            (false, Group::Join(group)) => text += &format!(">{group}"),
            (false, Group::Stay) => {}
        }
        if !node.before.is_empty() || !node.after.is_empty() {
            let before = list(forest, &node.before);
            let bar = if before.is_empty() { "" } else { " | " };
            text += &format!("({before}{bar}{})", list(forest, &node.after));
        }
        text
    }
    list(forest, &forest.roots)
}

fn planned(members: &[Member]) -> String {
    show(&plan(members))
}

#[test]
fn roots_stay_beside_each_other() {
    assert_eq!(planned(&[member(10, 5, 10, 5), member(20, 6, 20, 6)]), "10g 20g");
    assert_eq!(planned(&[member(10, 5, 9, 5)]), "10");
}

#[test]
fn children_are_forked_by_their_parents_in_any_order() {
    let list = [member(12, 11, 10, 5), member(11, 10, 10, 5), member(10, 5, 10, 5)];
    assert_eq!(planned(&list), "10g(11>10(12>10))");
}

#[test]
fn who_was_adopted_is_made_by_one_that_passes() {
    // 10 adopts: a daemon whose session has no leader any more, and a member of the session that 12 leads.
    let daemon = Member { gone: vec![20], ..member(11, 10, 20, 20) };
    let list = [member(10, 5, 10, 5), daemon, member(12, 10, 12, 12), member(13, 10, 12, 12)];
    let forest = plan(&list);
    assert_eq!(show(&forest), "10g(20~s(11>20) 12s(-~(13>12)))");
    assert_eq!(forest.nodes.iter().filter(|node| node.adopts).count(), 1);
    // The same if 10 leads a session itself.
    let list = [member(10, 5, 10, 10), list[1].clone(), list[2].clone(), list[3].clone()];
    assert_eq!(planned(&list), "20~s(10s(11>20 | 12s(-~(13>12))))");
}

#[test]
fn a_child_of_the_old_session_comes_before_setsid() {
    let list = [member(10, 5, 10, 5), member(11, 10, 11, 11), member(12, 11, 10, 5), member(13, 11, 11, 11)];
    assert_eq!(planned(&list), "10g(11s(12>10 | 13>11))");
}

#[test]
fn a_grandchild_of_the_old_session_climbs_through_leaders() {
    let list = [member(11, 5, 11, 11), member(12, 11, 12, 12), member(13, 12, 9, 5)];
    assert_eq!(planned(&list), "11s(12s(13 | ) | )");
}

#[test]
fn a_daemon_gets_its_session_from_a_passing_leader() {
    let mut daemon = member(12, 1, 11, 11);
    daemon.gone = vec![11];
    let kid = member(13, 12, 11, 11);
    assert_eq!(planned(&[daemon, kid]), "11~s(12>11(13>11))");
}

#[test]
fn an_orphan_of_a_living_session_is_forked_by_its_leader() {
    let list = [member(10, 5, 10, 10), member(12, 1, 10, 10)];
    assert_eq!(planned(&list), "10s(-~(12>10))");
    assert_eq!(plan(&list).waited, [0], "the orphan is not waited for");
}

#[test]
fn ended_children_come_again_and_can_lead() {
    let mut parent = member(10, 5, 10, 5);
    parent.ended = vec![EndedChild { pid: 11, pgid: 11, sid: 5, status: 0x2100 }];
    assert_eq!(planned(&[parent.clone(), member(12, 10, 11, 5)]), "10g(12>11 11!8448g)");
    parent.ended[0].sid = 11;
    assert_eq!(planned(&[parent, member(12, 1, 11, 11)]), "10g(11!8448s(12>11))");
}

#[test]
fn a_group_without_leader_gets_one_for_a_moment() {
    let mut first = member(11, 10, 9, 5);
    first.gone = vec![9];
    let second = Member { pid: 12, ..first.clone() };
    assert_eq!(planned(&[member(10, 5, 10, 5), first, second]), "10g(11>9(9~g) 12>9)");
}

#[test]
fn sessions_that_were_launched_on_a_terminal_share_the_new_one() {
    let on_terminal = |pid, ppid, pgid, sid| Member { foreground: 11, ..member(pid, ppid, pgid, sid) };
    // A shell with a job, which has a session with a terminal of its own, and a daemon without one.
    let mut shell = on_terminal(10, 5, 10, 10);
    shell.ended = vec![EndedChild { pid: 14, pgid: 14, sid: 10, status: 0 }];
    let inner = on_terminal(12, 11, 12, 12);
    let mut list = [shell, on_terminal(11, 10, 11, 10), inner, member(13, 1, 13, 13)];
    assert_eq!(planned(&list), "10s(11g(12s) 14!0g) 13s");
    share_terminal(&mut list);
    assert_eq!(planned(&list), "10g(11g(12s) 14!0g) 13s");
    let forest = plan(&list);
    assert_eq!((forest.foreground, &forest.waited[..]), (Some(1), &[0][..]));
}

#[test]
fn a_group_outside_is_inherited_before_the_parent_leaves_it() {
    assert_eq!(planned(&[member(10, 5, 10, 5), member(11, 10, 4, 5)]), "10g(11 | )");
}

#[test]
fn rings_and_doubles_end_as_roots() {
    assert_eq!(planned(&[member(10, 11, 3, 3), member(11, 10, 3, 3)]), "10(11)");
    assert_eq!(planned(&[member(10, 10, 10, 10), member(10, 10, 10, 10)]).matches("10").count(), 3);
}

#[test]
fn the_first_launched_counts() {
    let list = [member(22, 20, 20, 5), member(20, 5, 20, 5), member(10, 5, 10, 5)];
    assert_eq!(plan(&list).waited, [2, 1]);
    let daemon = Member { gone: vec![3], ..member(4, 1, 3, 3) };
    assert_eq!(plan(&[daemon, member(10, 1, 10, 0), member(9, 1, 8, 0)]).waited, [1, 2]);
    assert_eq!(plan(&[member(10, 1, 10, 10), member(9, 1, 9, 0), member(11, 7, 8, 0)]).waited, [2]);
}

#[test]
fn the_foreground_goes_to_the_group_that_had_it() {
    let shell_and_job = |foreground| {
        let shell = Member { foreground, ..member(10, 5, 10, 5) };
        plan(&[shell, member(11, 10, 11, 5), member(12, 10, 11, 5)]).foreground
    };
    assert_eq!(shell_and_job(11), Some(1), "a job of the shell");
    assert_eq!(shell_and_job(10), Some(0));
    assert_eq!(shell_and_job(5), Some(0), "a stranger: the first process");
    let gone = Member { foreground: 11, gone: vec![11], ..member(12, 10, 11, 5) };
    let forest = plan(&[member(10, 5, 10, 5), gone]);
    assert_eq!(forest.foreground.and_then(|node| forest.nodes[node].pid), Some(11), "one whose leader had ended");
    let inner = Member { foreground: 21, ..member(20, 10, 20, 20) };
    assert_eq!(plan(&[member(10, 5, 10, 5), inner, member(21, 20, 21, 20)]).foreground, Some(0), "another terminal");
}
