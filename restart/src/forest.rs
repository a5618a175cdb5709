//! Who forks whom: the plan of a family tree, made from what the images say of their processes. Pure.
//!
//! A process can only be born into the session of whoever forks it, leaves it only by leading one of its own, and joins
//! only groups of its session. So the tree of the plan is not always the tree of parents:
//!
//! ```text
//!   parent -+- before: children of the session that the parent was born into
//!           +- setsid, or setpgid(0, 0)
//!           +- after: all other children; leaders of groups whose leader had ended
//!   a session whose leader had ended:  passing leader -- its members, whose parents had ended too
//!   a member that outlived its parent: leader of its session -- passing process -- member
//!   one that was adopted (PR_SET_CHILD_SUBREAPER) from another session: the same two, in the tree of who adopted it
//! ```
//! Passing processes end before any memory is placed, and those that they forked are then children of whoever makes the
//! tree. Nothing is assumed of the numbers: whatever does not fit (two leaders, rings) becomes a root.

pub use dmtcp_plugin_api::restart::EndedChild;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// What is known of a process.
#[derive(Debug, Clone, Default)]
pub struct Member {
    /// Its pid.
    pub pid: i32,
    /// Its parent.
    pub ppid: i32,
    /// Its process group.
    pub pgid: i32,
    /// Its session.
    pub sid: i32,
    /// Which of its group and session had no leader any more.
    pub gone: Vec<i32>,
    /// Its ended children.
    pub ended: Vec<EndedChild>,
    /// The group in the foreground of its controlling terminal, if it has one.
    pub foreground: i32,
    /// The signals that parents get at the end of the process and of its ended children, by pid, if not SIGCHLD; 0: none.
    pub exit_signals: BTreeMap<i32, i32>,
}

/// What a node of the plan becomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The process of the image with this index.
    Process(usize),
    /// A process that has ended with this wait status.
    Ended(i32),
    /// Nothing: it is only there to fork others, or to lead.
    Passing,
}

/// What a node does about its process group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Group {
    /// It stays where it is born.
    Stay,
    /// It leads one.
    Lead,
    /// It joins this one once all are born.
    Join(i32),
}

/// A process of the plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Its pid; none: any that nobody else wants.
    pub pid: Option<i32>,
    /// The signal that whoever forks it gets at its end; 0: none.
    pub exit_signal: i32,
    /// What it becomes.
    pub role: Role,
    /// Whether it leads a session.
    pub session: bool,
    /// Its group.
    pub group: Group,
    /// Whether it must be a subreaper while passing nodes end.
    pub adopts: bool,
    /// Nodes that it forks before it leads anything.
    pub before: Vec<usize>,
    /// Nodes that it forks after that.
    pub after: Vec<usize>,
}

/// The plan.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Forest {
    /// All nodes; those of the images' processes first, in the order of the images.
    pub nodes: Vec<Node>,
    /// Nodes that are forked first.
    pub roots: Vec<usize>,
    /// The processes whose end is waited for; the first is the one whose exit status counts.
    pub waited: Vec<usize>,
    /// The leader of the group that gets the foreground of the terminal, if dmtcp_restart has it.
    pub foreground: Option<usize>,
}

/// No session or group of the tree: that of whoever restarts it.
const OUTSIDE: i32 = 0;

struct Planner<'a> {
    forest: Forest,
    members: &'a [Member],
    sids: Vec<i32>,
    pgids: Vec<i32>,
    parents: Vec<Option<usize>>,
    sessions: BTreeMap<i32, usize>,
    groups: BTreeSet<i32>,
    passing: BTreeMap<i32, usize>,
}

/// Sessions that were started on a terminal, by whoever launched their leaders, and that are restarted on another one: only
/// the session that this belongs to has it, so their processes become members of that, in groups of their own.
pub fn share_terminal(members: &mut [Member]) {
    let is_launched = |leader: &Member| {
        leader.pid == leader.sid && leader.foreground > 0 && members.iter().all(|other| other.pid != leader.ppid)
    };
    let shared: BTreeSet<i32> = members.iter().filter(|leader| is_launched(leader)).map(|leader| leader.sid).collect();
    let sids = members.iter_mut().flat_map(|member| {
        let Member { sid, ended, .. } = member;
        ended.iter_mut().map(|child| &mut child.sid).chain([sid])
    });
    sids.filter(|sid| shared.contains(sid)).for_each(|sid| *sid = OUTSIDE);
}

/// The plan for these processes, which are not empty.
pub fn plan(members: &[Member]) -> Forest {
    let mut planner = Planner::new(members);
    let needs = planner.needs();
    planner.attach(&needs);
    planner.lead_gone_groups();
    planner.join_groups();
    planner.reach_all();
    planner.choose_waited();
    planner.choose_foreground();
    planner.forest
}

impl<'a> Planner<'a> {
    fn new(members: &'a [Member]) -> Self {
        let mut planner = Self {
            forest: Forest::default(),
            members,
            sids: Vec::new(),
            pgids: Vec::new(),
            parents: Vec::new(),
            sessions: BTreeMap::new(),
            groups: BTreeSet::new(),
            passing: BTreeMap::new(),
        };
        let by_pid: BTreeMap<i32, usize> = members.iter().enumerate().rev().map(|(i, m)| (m.pid, i)).collect();
        for (index, member) in members.iter().enumerate() {
            let parent = by_pid.get(&member.ppid).copied().filter(|parent| *parent != index);
            planner.add(Some(member.pid), Role::Process(index), member.sid, member.pgid, parent);
        }
        for (index, member) in members.iter().enumerate() {
            for child in &member.ended {
                planner.add(Some(child.pid), Role::Ended(child.status), child.sid, child.pgid, Some(index));
            }
        }
        planner
    }

    fn add(&mut self, pid: Option<i32>, role: Role, sid: i32, pgid: i32, parent: Option<usize>) -> usize {
        let index = self.forest.nodes.len();
        let session = pid == Some(sid) && !self.sessions.contains_key(&sid);
        let leads = session || (pid == Some(pgid) && !self.groups.contains(&pgid));
        if session {
            self.sessions.insert(sid, index);
        }
        if leads {
            self.groups.insert(pgid);
        }
        let group = if leads { Group::Lead } else { Group::Stay };
        // One without a parent here is waited for by whoever makes the tree.
        let told = parent.and(pid).and_then(|pid| {
            let own = if let Role::Process(image) = role { Some(image) } else { parent };
            self.members.get(own?)?.exit_signals.get(&pid).copied()
        });
        let exit_signal = told.unwrap_or(libc::SIGCHLD);
        let (before, after) = (Vec::new(), Vec::new());
        self.forest.nodes.push(Node { pid, exit_signal, role, session, group, adopts: false, before, after });
        self.sids.push(sid);
        self.pgids.push(pgid);
        self.parents.push(parent);
        index
    }

    fn is_gone(&self, id: i32) -> bool {
        id > OUTSIDE && self.members.iter().any(|member| member.gone.contains(&id))
    }

    /// The session that a node must be born into, if it matters.
    fn needs(&self) -> Vec<Option<i32>> {
        let session_of = |node: usize| {
            let sid = self.sids[node];
            if self.is_known_session(sid) { sid } else { OUTSIDE }
        };
        let nodes = &self.forest.nodes;
        let mut needs: Vec<Option<i32>> =
            (0..nodes.len()).map(|node| (!nodes[node].session).then(|| session_of(node))).collect();
        // A leader must be born where its children of another session are; that may climb up through leaders.
        for _ in 0..nodes.len() {
            let mut changed = false;
            for node in 0..nodes.len() {
                let Some(parent) = self.parents[node] else { continue };
                let own = Some(self.sids[parent]);
                let Some(need) = needs[node].filter(|need| needs[parent].is_none() && Some(*need) != own) else {
                    continue;
                };
                if self.may_start_in(parent, need) {
                    needs[parent] = Some(need);
                    changed = true;
                }
            }
            if !changed {
                break;
            }
        }
        needs
    }

    /// Whether a leader can have been born into this session, which it has left then.
    fn may_start_in(&self, node: usize, session: i32) -> bool {
        if session == OUTSIDE {
            return true;
        }
        match (self.sessions.get(&session), self.parents[node]) {
            // Who leads it was born later.
            (Some(leader), _) => !self.is_within(*leader, node),
            (None, None) => true,
            (None, Some(parent)) => self.sids[parent] == session || self.forest.nodes[parent].session,
        }
    }

    /// Whether a node is another one, or descends from it.
    fn is_within(&self, node: usize, ancestor: usize) -> bool {
        let up = std::iter::successors(Some(node), |node| self.parents[*node]);
        up.take(self.parents.len()).any(|node| node == ancestor)
    }

    fn attach(&mut self, needs: &[Option<i32>]) {
        for (node, need) in needs.iter().enumerate() {
            let Some(parent) = self.parents[node] else {
                self.attach_orphan(node, need.unwrap_or(OUTSIDE));
                continue;
            };
            let other = need.filter(|session| *session != self.sids[parent]);
            let other_session = self.forest.nodes[parent].session && other.is_some() && needs[parent] == other;
            if let Some(session) = other.filter(|session| !other_session && *session != OUTSIDE) {
                // Its parent was another one: this one has adopted it.
                self.forest.nodes[parent].adopts = true;
                let maker = self.maker_in(session, Some(parent));
                self.forest.nodes[maker].after.push(node);
                continue;
            }
            // Nobody can go back to a group that has no name here.
            let other_group = !self.forest.nodes[parent].session
                && self.forest.nodes[parent].group == Group::Lead
                && !self.is_known_group(self.pgids[node]);
            if other_session || other_group {
                self.forest.nodes[parent].before.push(node);
            } else {
                self.forest.nodes[parent].after.push(node);
            }
        }
    }

    /// A node whose parent is not in the tree.
    fn attach_orphan(&mut self, node: usize, session: i32) {
        if session == OUTSIDE {
            return self.forest.roots.push(node);
        }
        let maker = self.maker_in(session, None);
        self.forest.nodes[maker].after.push(node);
    }

    /// A node of this session that ends before memory is placed. If the session needs a leader, `parent` forks it.
    fn maker_in(&mut self, session: i32, parent: Option<usize>) -> usize {
        match self.sessions.get(&session).copied() {
            Some(leader) if !matches!(self.forest.nodes[leader].role, Role::Process(_)) => leader,
            Some(leader) => match self.passing.get(&session) {
                Some(passing) => *passing,
                None => {
                    let passing = self.add(None, Role::Passing, session, OUTSIDE, Some(leader));
                    self.forest.nodes[leader].after.push(passing);
                    self.passing.insert(session, passing);
                    passing
                }
            },
            None => {
                let leader = self.add(Some(session), Role::Passing, session, session, parent);
                match parent {
                    Some(parent) => self.forest.nodes[parent].after.push(leader),
                    None => self.forest.roots.push(leader),
                }
                leader
            }
        }
    }

    fn is_known_session(&self, sid: i32) -> bool {
        self.sessions.contains_key(&sid) || self.is_gone(sid)
    }

    fn is_known_group(&self, pgid: i32) -> bool {
        self.groups.contains(&pgid) || self.is_gone(pgid)
    }

    /// A group without a leader needs one for as long as it is made.
    fn lead_gone_groups(&mut self) {
        for node in 0..self.forest.nodes.len() {
            let pgid = self.pgids[node];
            if self.is_gone(pgid) && !self.groups.contains(&pgid) {
                let leader = self.add(Some(pgid), Role::Passing, self.sids[node], pgid, Some(node));
                self.forest.nodes[node].after.push(leader);
            }
        }
    }

    fn join_groups(&mut self) {
        for node in 0..self.forest.nodes.len() {
            if self.forest.nodes[node].group == Group::Stay && self.groups.contains(&self.pgids[node]) {
                self.forest.nodes[node].group = Group::Join(self.pgids[node]);
            }
        }
    }

    /// Whatever hangs on nothing (parents in a ring) becomes a root.
    fn reach_all(&mut self) {
        let count = self.forest.nodes.len();
        let mut reached = vec![false; count];
        let mut queue: VecDeque<usize> = self.forest.roots.iter().copied().collect();
        let mut next = 0;
        loop {
            while let Some(node) = queue.pop_front() {
                reached[node] = true;
                let node = &mut self.forest.nodes[node];
                node.before.retain(|child| !reached[*child]);
                node.after.retain(|child| !reached[*child]);
                queue.extend(node.before.iter().chain(&node.after));
            }
            while next < count && reached[next] {
                next += 1;
            }
            if next == count {
                return;
            }
            self.forest.roots.push(next);
            queue.push_back(next);
        }
    }

    /// Those without a parent are waited for; not those that became so: daemons in sessions of their own, children of
    /// init. The first is the one that was launched first: it leads its group, or has the lowest pid.
    fn choose_waited(&mut self) {
        const INIT: i32 = 1;
        let node = |index: usize| (&self.forest.nodes[index], &self.members[index]);
        let mut waited: Vec<usize> = (0..self.members.len()).filter(|index| self.parents[*index].is_none()).collect();
        let stays = |index: &usize| !node(*index).0.session && !self.is_known_session(node(*index).1.sid);
        let leads = |index: &usize| node(*index).0.session;
        let of_shell = |index: &usize| node(*index).1.ppid > INIT;
        for preferred in [&stays as &dyn Fn(&usize) -> bool, &leads, &of_shell] {
            if waited.iter().any(preferred) {
                waited.retain(preferred);
            }
        }
        waited.sort_by_key(|index| (node(*index).0.group != Group::Lead, node(*index).1.pid));
        if waited.is_empty() {
            waited.push(0);
        }
        self.forest.waited = waited;
    }

    /// The group that had the foreground of the terminal that the first processes were launched on; else that of the first.
    fn choose_foreground(&mut self) {
        let nodes = &self.forest.nodes;
        let leads = |node: &usize| !nodes[*node].session && nodes[*node].group == Group::Lead;
        let outside = |member: &&Member| member.foreground > 0 && !self.is_known_session(member.sid);
        let group = self.members.iter().find(outside).map(|member| member.foreground);
        let leader = (0..nodes.len()).filter(leads).find(|node| group == Some(self.pgids[*node]));
        self.forest.foreground = leader.or_else(|| self.forest.waited.first().copied().filter(leads));
    }
}

#[cfg(test)]
#[path = "forest_tests.rs"]
mod tests;
