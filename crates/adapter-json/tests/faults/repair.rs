//! Tests of `tenure doctor --repair`: on a damaged store, and with failures during the repair.

use tenure_adapter_json::{Loss, RepairPlan, Repairer};

use super::*;

const BACKUP: &str = "/sim/s.jsonl.before-repair";

pub(super) fn repairer(fs: &SimulatedStorage, time: &Arc<SimulatedMachine>) -> Repairer {
    Repairer::new(&path(), time.clone(), &policy()).with_storage(Arc::new(fs.clone())).with_boot(time.clone())
}

pub(super) fn planned(fs: &SimulatedStorage, time: &Arc<SimulatedMachine>) -> RepairPlan {
    repairer(fs, time).plan().unwrap().expect("there is something to repair")
}

/// Makes a journal with all kinds of lines, and returns its storage, its bytes and its sessions.
fn journal(time: &Arc<SimulatedMachine>, small: bool) -> (SimulatedStorage, Vec<u8>, Vec<SessionParts>) {
    let (fs, mut log) = (empty_disk(), Log::default());
    if small {
        run(async {
            let store = mount(&fs, time).unwrap();
            for n in 0..9 {
                step(&store, n, &mut log).await.unwrap();
                time.pass(Millis::new(10));
            }
            log.states.push(state(&store).await.unwrap());
        });
    } else {
        run(history(&fs, time, &mut log)).unwrap();
    }
    let bytes = fs.content(&path()).unwrap();
    (fs, bytes, log.states.pop().unwrap())
}

fn damaged(bytes: &[u8]) -> SimulatedStorage {
    let fs = empty_disk();
    fs.put(&path(), bytes);
    fs
}

fn sessions(fs: &SimulatedStorage, time: &Arc<SimulatedMachine>) -> Result<Vec<SessionParts>, StoreError> {
    run(async { state(&*mount(fs, time)?).await })
}

fn repaired(fs: &SimulatedStorage, time: &Arc<SimulatedMachine>) -> (RepairPlan, Vec<SessionParts>) {
    let plan = planned(fs, time);
    repairer(fs, time).execute(&plan).unwrap();
    assert!(repairer(fs, time).plan().unwrap().is_none(), "nothing is left to repair");
    (plan, sessions(fs, time).unwrap())
}

#[test]
fn a_valid_store_is_not_repaired() {
    let time = machine();
    let (fs, bytes, _) = journal(&time, false);
    assert!(repairer(&fs, &time).plan().unwrap().is_none());
    assert_eq!(fs.content(&path()).unwrap(), bytes);
}

#[test]
fn one_changed_bit_is_corrected() {
    let time = machine();
    let (_, bytes, before) = journal(&time, true);
    for bit in (0..bytes.len() * 8).step_by(13) {
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        let fs = damaged(&flipped);
        let (plan, after) = repaired(&fs, &time);
        assert_eq!(after, before, "bit {bit}: {plan:?}");
        assert!(matches!(plan.losses[..], [Loss::BitRepaired { .. }]), "bit {bit}: {plan:?}");
        assert!(plan.ended.is_empty() && !plan.unnamed, "bit {bit}: {plan:?}");
        assert_eq!(fs.content(Path::new(BACKUP)).unwrap(), flipped, "bit {bit}");
    }
}

/// Returns whether each session has ended, by id.
fn ends(sessions: &[SessionParts]) -> std::collections::BTreeMap<SessionId, bool> {
    sessions.iter().map(|session| (session.id, session.end.is_some())).collect()
}

#[test]
fn a_lost_line_revives_no_session_and_affects_only_those_it_names() {
    let time = machine();
    for small in [true, false] {
        let (_, bytes, before) = journal(&time, small);
        let lines: Vec<&[u8]> = bytes.split_inclusive(|byte| *byte == b'\n').collect();
        for lost in 0..lines.len() {
            let mut garbled = lines[lost].to_vec();
            // This damage is near the end of the line, so its ids stay readable and only its checksum is wrong.
            let at = garbled.len() - 12;
            garbled[at..at + 6].copy_from_slice(b"######");
            let all: Vec<u8> =
                (0..lines.len()).flat_map(|n| if n == lost { &garbled } else { lines[n] }).copied().collect();
            let fs = damaged(&all);
            assert!(matches!(sessions(&fs, &time), Err(StoreError::Corrupt { .. })), "line {}", lost + 1);
            let (plan, after) = repaired(&fs, &time);
            let (was, is) = (ends(&before), ends(&after));
            let line = String::from_utf8_lossy(lines[lost]).into_owned();
            for (id, over) in &is {
                assert!(*over || was.get(id) == Some(&false), "line {}: {id} is active again: {plan:?}", lost + 1);
            }
            for (id, over) in &was {
                let is_there = is.get(id).is_some_and(|now| now == over);
                assert!(
                    is_there || *over || line.contains(&id.to_string()),
                    "line {}: {id} is lost: {plan:?}",
                    lost + 1
                );
            }
            assert!(
                plan.losses.iter().any(|loss| matches!(loss, Loss::Dropped { line, .. } if *line == lost as u64 + 1))
            );
        }
    }
}

#[test]
fn missing_lines_are_noticed_and_the_rest_is_consistent() {
    let time = machine();
    let (_, bytes, before) = journal(&time, true);
    let lines: Vec<&[u8]> = bytes.split_inclusive(|byte| *byte == b'\n').collect();
    for from in 1..lines.len() - 1 {
        for to in from + 1..lines.len() {
            let rest = [&lines[..from].concat()[..], &lines[to..].concat()].concat();
            let fs = damaged(&rest);
            let (plan, after) = repaired(&fs, &time);
            let missing = Loss::Missing { from: from as u64 + 1, to: to as u64 };
            assert!(plan.losses.contains(&missing) && plan.unnamed, "{from} to {to}: {plan:?}");
            assert!(after.iter().all(|session| before.iter().any(|other| other.id == session.id)));
        }
    }
}

#[test]
fn a_torn_end_is_cut_as_a_writer_would() {
    let time = machine();
    let (fs, bytes, before) = journal(&time, true);
    let last = bytes[..bytes.len() - 1].iter().rposition(|byte| *byte == b'\n').unwrap() + 1;
    let torn = [&bytes[..], &bytes[last..bytes.len() - 9]].concat();
    fs.put(&path(), &torn);
    let (plan, after) = repaired(&fs, &time);
    assert_eq!(plan.losses, [Loss::Torn { offset: bytes.len() as u64, bytes: (torn.len() - bytes.len()) as u64 }]);
    assert_eq!((after, plan.ended.len(), plan.unnamed), (before, 0, false));
}

#[test]
fn running_processes_go_on_after_a_repair() {
    let time = machine();
    let (fs, bytes, _) = journal(&time, true);
    run(async {
        let store = mount(&fs, &time).unwrap();
        let id = issue(&store, "mine", 50).await.session.id;
        let whole = fs.content(&path()).unwrap();
        let file = fs.open(&path(), OpenMode::Write).unwrap();
        file.write_at(b"not a line of ours\n", whole.len() as u64).unwrap();
        assert!(matches!(store.find(id, FindOptions::EXACT).await, Err(StoreError::Corrupt { .. })));
        let plan = planned(&fs, &time);
        repairer(&fs, &time).execute(&plan).unwrap();
        assert_eq!(store.find(id, FindOptions::EXACT).await.unwrap().map(|found| found.id), Some(id));
        issue(&store, "mine", 51).await;
        assert_eq!(state(&store).await.unwrap(), state(&mount(&fs, &time).unwrap()).await.unwrap());
        assert!(bytes.len() < whole.len());
    });
}

#[test]
fn a_store_that_changed_after_the_plan_is_not_repaired() {
    let time = machine();
    let (fs, bytes, _) = journal(&time, true);
    fs.put(&path(), &bytes[..bytes.len() - 9]);
    let plan = planned(&fs, &time);
    run(async { issue(&mount(&fs, &time).unwrap(), "meanwhile", 60).await });
    let before = fs.content(&path()).unwrap();
    let refused = repairer(&fs, &time).execute(&plan).unwrap_err();
    assert!(refused.to_string().contains("has changed since the repair was planned"), "{refused}");
    assert_eq!(fs.content(&path()).unwrap(), before);
    assert!(fs.content(Path::new(BACKUP)).is_none());
}

#[test]
fn a_file_that_is_not_a_journal_is_left_alone() {
    let time = machine();
    for foreign in [&b""[..], b"hello\n", b"{\"sessions\":{}}\n", &[0; 4096], b"{\"crc\":\"00000000\",\"tx\":{}}\n"] {
        let fs = damaged(foreign);
        assert!(matches!(repairer(&fs, &time).plan(), Err(StoreError::Corrupt { .. })));
        assert_eq!(fs.content(&path()).unwrap(), foreign);
    }
}

#[test]
fn a_repair_that_is_cut_off_leaves_the_store_as_it_was_or_repaired() {
    let time = machine();
    let (_, bytes, _) = journal(&time, true);
    let mut broken = bytes.clone();
    let middle = broken.len() / 2;
    broken[middle..middle + 8].copy_from_slice(b"########");
    let fs = damaged(&broken);
    let (plan, after) = repaired(&fs, &time);
    for at in 1..=fs.changes() {
        for fault in [Fault::PowerLoss, Fault::Errors(Errno::NOSPC, 0), Fault::Errors(Errno::IO, 3)] {
            let fs = damaged(&broken);
            fs.set_fault(at, fault);
            let done = repairer(&fs, &time).execute(&plan);
            for seed in 0..12 {
                let fs = fs.after_power_loss(dice(seed * 100 + at as u64));
                let found = sessions(&fs, &time);
                let context = format!("{fault:?} at {at}, seed {seed}: {found:?}");
                if fs.content(&path()).unwrap() == broken {
                    assert!(done.is_err() && matches!(found, Err(StoreError::Corrupt { .. })), "{context}");
                } else {
                    assert_eq!(found.unwrap(), after, "{fault:?} at {at}, seed {seed}");
                    assert_eq!(fs.content(Path::new(BACKUP)).unwrap(), broken, "{fault:?} at {at}, seed {seed}");
                }
            }
        }
    }
}
