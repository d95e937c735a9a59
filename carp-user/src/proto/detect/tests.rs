use super::*;

const INTERVAL: Span = Span::millis(5);

fn watched(paths: usize) -> Watched {
    let ip = IpAddr::from([10, 0, 0, 1]);
    let vhid = Vhid::new(1).expect("a vhid");
    let by = By::Host { host: HostId(0), link: IfIndex(1), vhid };
    let path = Path { by, source: ip, master: ip };
    Watched { interval: INTERVAL, paths: vec![path; paths] }
}

/// A prober with its master, whose lease is renewed for as long as it is to be.
struct Bench {
    detector: Detector,
    now: Instant,
    answers: Vec<Answered>,
    lease_until: Instant,
}

impl Bench {
    fn new(paths: usize) -> Self {
        let now = Instant::ZERO + Span::secs(9);
        let answers = vec![Answered::default(); paths];
        Self {
            detector: Detector::new(&watched(paths), now),
            now,
            answers,
            lease_until: now + Span::millis(100),
        }
    }

    /// One interval: looks, asks, and has the paths that work answer at once. What was told.
    fn step(&mut self, works: &[bool]) -> Option<Sign> {
        let told = self.detector.look(self.answers.iter().copied(), self.now);
        assert!(self.detector.asks(self.now) && !self.detector.asks(self.now));
        for (path, works) in works.iter().enumerate() {
            self.detector.asked(path, self.now);
            if *works && self.now < self.lease_until {
                self.answers[path] = Answered { asked_at: self.now, until: self.lease_until };
            }
        }
        self.now = self.now + INTERVAL;
        told
    }

    fn renew(&mut self) {
        self.lease_until = self.now + Span::millis(100);
    }
}

#[test]
fn silence_on_all_paths_is_told_after_three_questions_and_on_one_path_never() {
    let mut bench = Bench::new(2);
    let told: Vec<_> = (0..40).map(|_| (bench.renew(), bench.step(&[true, true])).1).collect();
    assert_eq!(told.iter().flatten().collect::<Vec<_>>(), [&Sign::Lives], "and again after half a second");
    for _ in 0..40 {
        bench.renew();
        assert_eq!(bench.step(&[true, false]), None);
    }
    assert_eq!(bench.detector.silent(bench.now).collect::<Vec<_>>(), [false, true]);
    bench.renew();
    let told: Vec<_> = (0..4).map(|_| bench.step(&[false, false])).collect();
    assert_eq!(told, [None, None, None, Some(Sign::Silent)]);
    let again: Vec<_> = (0..8).map(|_| bench.step(&[false, false]).is_some()).collect();
    assert_eq!(again, [false, false, false, true, false, false, false, true]);
    bench.renew();
    assert_eq!([0; 2].map(|_| bench.step(&[false, true])), [None, Some(Sign::Lives)]);
}

#[test]
fn a_lease_that_is_not_renewed_is_over_when_it_was_told_to_be() {
    let mut bench = Bench::new(1);
    bench.step(&[true]);
    let ends_at = bench.lease_until;
    while bench.now < ends_at {
        assert!(matches!(bench.step(&[true]), None | Some(Sign::Lives)));
    }
    assert_eq!(bench.detector.deadline(), ends_at);
    assert_eq!(bench.detector.look(bench.answers.iter().copied(), ends_at), Some(Sign::Lapsed));
}

#[test]
fn one_that_may_have_been_renewed_unheard_is_not_over() {
    let mut bench = Bench::new(1);
    bench.step(&[true]);
    // No answer in the last moments of it, and no three questions either: the prober slept.
    let late = bench.lease_until + Span::millis(3);
    assert_eq!(bench.detector.look(bench.answers.iter().copied(), late), None);
}

#[test]
fn who_slept_counts_anew() {
    let mut bench = Bench::new(1);
    for works in [true, true, true, true, false, false] {
        bench.renew();
        bench.step(&[works]);
    }
    bench.now = bench.now + INTERVAL.times(3);
    bench.renew();
    let told: Vec<_> = (0..4).map(|_| bench.step(&[false])).collect();
    assert_eq!(told, [None, None, None, Some(Sign::Silent)]);
}

#[test]
fn a_master_that_never_answered_is_not_missed() {
    let mut bench = Bench::new(1);
    assert!((0..99).all(|_| bench.step(&[false]).is_none()));
}

#[test]
fn a_pulse_is_renewed_while_more_than_the_guard_is_left_of_it() {
    let (start, lease) = (Instant::ZERO + Span::secs(9), Span::millis(100));
    let pulse = Pulse::new(start + lease);
    let renewed = |after| pulse.renewed(lease, start + Span::millis(after)).map(Pulse::until);
    assert_eq!(renewed(79), Some(start + Span::millis(179)));
    for late in [80, 100, 500] {
        assert_eq!(renewed(late), None);
    }
    assert_eq!(Pulse::default().renewed(lease, start), None);
}
