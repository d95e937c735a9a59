use super::*;

const BEGUN: Instant = Instant::from_nanos(1_000_000_000_000);
const BAD: &str = "exit code 1";

fn setup(name: &str) -> Setup {
    Setup {
        name: name.to_owned(),
        what: format!("script {name}"),
        amount: 240,
        interval: Span::secs(1),
        timeout: Span::millis(500),
        rise: 2,
        fall: 3,
    }
}

/// Tracks on a clock that only goes when it is told to.
struct Play {
    tracks: Tracks,
    now: Instant,
}

impl Play {
    fn of(setups: &[Setup]) -> (Self, Vec<Action>) {
        let mut play = Self { tracks: Tracks::default(), now: BEGUN };
        let actions = play.tell(Event::Configure(setups.to_vec()));
        (play, actions)
    }

    fn tell(&mut self, event: Event) -> Vec<Action> {
        self.tracks.handle(event, self.now)
    }

    /// Goes on to the deadline.
    fn go_on(&mut self) -> Vec<Action> {
        self.now = self.tracks.deadline().expect("something is due").max(self.now);
        self.tell(Event::Tick)
    }

    /// The attempt that has just begun comes to this.
    fn ends(&mut self, actions: &[Action], good: bool) -> bool {
        let [Action::Begin { attempt, .. }] = actions else { panic!("{actions:?}") };
        let outcome = if good { Outcome::Good("ok".into()) } else { Outcome::Bad(BAD.into()) };
        assert_eq!(self.tell(Event::Ended { attempt: *attempt, outcome }), []);
        self.fails()
    }

    fn fails(&self) -> bool {
        self.tracks.findings()[0].failing.is_some()
    }
}

#[test]
fn a_track_falls_after_so_many_bad_outcomes_in_a_row_and_rises_after_so_many_good_ones() {
    let (mut play, mut begun) = Play::of(&[setup("dns")]);
    assert!(!play.fails(), "before the first outcome");
    let outcomes = [0, 0, 1, 0, 0, 0, 1, 0, 1, 1, 0];
    let mut seen = Vec::new();
    for good in outcomes {
        seen.push(u8::from(play.ends(&begun, good == 1)));
        begun = play.go_on();
    }
    assert_eq!(seen, [0, 0, 0, 0, 0, 1, 1, 1, 1, 0, 0]);
    let [finding] = &play.tracks.findings()[..] else { panic!("one track") };
    assert_eq!(finding.turning, (1, 3));
    assert_eq!(finding.since, BEGUN + Span::secs(9), "when it rose");
}

#[test]
fn attempts_begin_at_the_interval_however_long_they_take() {
    let (mut play, begun) = Play::of(&[setup("dns")]);
    play.now = play.now + Span::millis(400);
    play.ends(&begun, true);
    let begun = play.go_on();
    assert_eq!(play.now, BEGUN + Span::secs(1));
    play.ends(&begun, true);
}

#[test]
fn an_attempt_that_takes_too_long_is_bad_and_ended_and_its_late_outcome_does_not_count() {
    let (mut play, begun) = Play::of(&[Setup { fall: 1, ..setup("dns") }]);
    let [Action::Begin { attempt, .. }] = begun[..] else { panic!("{begun:?}") };
    assert_eq!(play.go_on(), [Action::End { attempt }]);
    assert_eq!(play.now, BEGUN + Span::millis(500));
    assert_eq!(play.tracks.findings()[0].failing.as_deref(), Some("no outcome after 500.000 ms"));
    let outcome = Outcome::Good("at last".into());
    play.tell(Event::Ended { attempt, outcome });
    assert!(play.fails() && play.tracks.findings()[0].turning == (0, 2));
    play.go_on();
    assert_eq!(play.now, BEGUN + Span::secs(1), "the next one begins when it is due");
}

#[test]
fn one_that_cannot_be_ended_is_bad_once_an_interval_and_no_other_begins_beside_it() {
    let (mut play, begun) = Play::of(&[setup("dns")]);
    let [Action::Begin { attempt, .. }] = begun[..] else { panic!("{begun:?}") };
    assert_eq!(play.go_on(), [Action::End { attempt }]);
    assert_eq!((play.go_on(), play.fails()), (vec![], false));
    assert_eq!((play.go_on(), play.fails()), (vec![], true));
    assert_eq!(play.now, BEGUN + Span::millis(2_500));
    let outcome = Outcome::Bad("killed".into());
    let begun = play.tell(Event::Ended { attempt, outcome });
    assert!(matches!(begun[..], [Action::Begin { .. }]), "it is long due: {begun:?}");
}

#[test]
fn who_wakes_late_takes_outcomes_before_the_time_that_is_over() {
    let (mut play, begun) = Play::of(&[Setup { fall: 1, ..setup("dns") }]);
    let [Action::Begin { attempt, .. }] = begun[..] else { panic!("{begun:?}") };
    play.now = play.now + Span::secs(5);
    let next = play.tell(Event::Ended { attempt, outcome: Outcome::Good("ok".into()) });
    assert!(!play.fails(), "it ended in time");
    assert!(matches!(next[..], [Action::Begin { .. }]), "one, not five: {next:?}");
}

#[test]
fn not_all_begin_at_once_and_the_longest_due_goes_first() {
    let setups: Vec<Setup> = (0..AT_ONCE + 2).map(|number| setup(&format!("t{number:02}"))).collect();
    let (mut play, begun) = Play::of(&setups);
    assert_eq!(begun.len(), AT_ONCE);
    let attempts: Vec<u64> = begun
        .iter()
        .map(|action| match action {
            Action::Begin { attempt, .. } | Action::End { attempt } => *attempt,
        })
        .collect();
    play.now = play.now + Span::millis(100);
    let next = play.tell(Event::Ended { attempt: attempts[3], outcome: Outcome::Good("ok".into()) });
    let [Action::Begin { track, .. }] = &next[..] else { panic!("{next:?}") };
    assert_eq!(track, "t16");
    // Those that hang leave their places to others.
    play.now = BEGUN + Span::millis(500);
    let next = play.tell(Event::Tick);
    assert_eq!(next.iter().filter(|action| matches!(action, Action::End { .. })).count(), AT_ONCE - 1);
    assert!(next.iter().any(|action| matches!(action, Action::Begin { track, .. } if track == "t17")));
}

#[test]
fn a_track_that_is_configured_otherwise_goes_on_and_one_that_goes_or_looks_elsewhere_ends() {
    let failing = |play: &Play| {
        let findings = play.tracks.findings().into_iter();
        findings.map(|finding| (finding.name, finding.failing.is_some())).collect::<Vec<_>>()
    };
    let (mut play, begun) = Play::of(&[Setup { fall: 1, ..setup("dns") }]);
    play.ends(&begun, false);
    let louder = Setup { amount: 250, fall: 1, ..setup("dns") };
    assert_eq!(play.tell(Event::Configure(vec![louder.clone()])), []);
    assert_eq!((failing(&play), play.tracks.findings()[0].amount), (vec![("dns".into(), true)], 250));
    let begun = play.go_on();
    let [Action::Begin { attempt, .. }] = begun[..] else { panic!("{begun:?}") };
    let elsewhere = Setup { what: "script other".into(), ..louder };
    let actions = play.tell(Event::Configure(vec![elsewhere]));
    assert!(actions.starts_with(&[Action::End { attempt }]) && actions.len() == 2, "{actions:?}");
    assert_eq!(failing(&play), [("dns".into(), false)], "it begins good");
    play.tell(Event::Configure(vec![]));
    assert_eq!((failing(&play), play.tracks.deadline()), (vec![], None));
}

#[test]
fn a_shorter_interval_counts_at_once() {
    let (mut play, begun) = Play::of(&[Setup { interval: Span::secs(60), ..setup("dns") }]);
    play.ends(&begun, true);
    play.tell(Event::Configure(vec![setup("dns")]));
    assert_eq!(play.tracks.deadline(), Some(BEGUN + Span::secs(1)));
}

#[test]
fn tracks_behind_the_most_are_left_out() {
    let setups: Vec<Setup> = (0..MOST + 1).map(|number| setup(&format!("t{number}"))).collect();
    assert_eq!(Play::of(&setups).0.tracks.findings().len(), MOST);
}
