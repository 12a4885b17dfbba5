use super::*;

const T: Timestamp = Timestamp(1_000);

fn health() -> Health {
    let stored =
        StoredState { state: LaneState::Active, reason: String::new(), since: Timestamp(0) };
    Health::new(stored, &LaneSettings::default(), Instant::now())
}

fn moment() -> Moment {
    Moment { wall: T, now: Instant::now() }
}

fn later(at: Moment, by: Duration) -> Moment {
    Moment { wall: at.wall.saturating_add(by), now: at.now + by }
}

fn fail(health: &mut Health, signal: Signal, at: Moment) {
    health.failed(signal, "a reason", Some(1), 0.5, at);
}

fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

#[test]
fn a_throttled_lane_sends_nothing_until_then_and_starts_slowly() {
    let (mut health, at) = (health(), moment());
    fail(&mut health, Signal::Throttled(secs(7)), at);
    fail(&mut health, Signal::Throttled(secs(2)), at);
    assert_eq!(health.mode(0, at), Mode::Wait(Some(at.now + secs(7))), "the longest wait holds");
    assert_eq!(health.mode(0, later(at, secs(7))), Mode::Send);
    assert_eq!(health.concurrency(), 1);
}

#[test]
fn a_clock_that_jumps_back_makes_a_throttled_lane_wait_no_longer_than_a_server_may_ask() {
    let (mut health, at) = (health(), Moment { wall: Timestamp(100_000_000_000), ..moment() });
    fail(&mut health, Signal::Throttled(secs(60)), at);
    let back = Moment { wall: Timestamp(0), ..at };
    let hour = LaneSettings::default().retry.server_wait_max;
    assert_eq!(health.mode(0, back), Mode::Wait(Some(at.now + hour)));
    assert_eq!(health.mode(0, later(back, hour)), Mode::Send);
}

#[test]
fn a_pause_does_not_shorten_what_the_server_asked_for() {
    let (mut health, at) = (health(), moment());
    fail(&mut health, Signal::Throttled(secs(60)), at);
    health.pause("soc", at.wall);
    fail(&mut health, Signal::Throttled(secs(70)), at);
    health.resume(later(at, secs(1)));
    assert_eq!(health.state(), LaneState::Throttled { until: T.saturating_add(secs(70)) });
}

#[test]
fn an_open_lane_probes_by_the_schedule_one_event_at_a_time() {
    let (mut health, at) = (health(), moment());
    (0..8).for_each(|_| fail(&mut health, Signal::Failing, at));
    assert_eq!(health.state(), LaneState::Open);
    let Mode::Wait(Some(due)) = health.mode(0, at) else { panic!("it waits") };
    assert_eq!(due, at.now + Duration::from_millis(500), "late failures do not lengthen the wait");
    let at = Moment { now: due, ..at };
    assert_eq!(health.mode(1, at), Mode::Wait(None), "what is under way ends first");
    assert_eq!(health.mode(0, at), Mode::Probe);
    health.probes.started(7, 9, at.now);
    assert_ne!(health.mode(0, at), Mode::Probe);
    health.succeeded(3, at);
    assert_eq!(health.state(), LaneState::Open, "flight 3 began before the outage");
    health.came_to_nothing(9, 0.5, at.now);
    assert_eq!(health.mode(0, at), Mode::Wait(Some(at.now + secs(1))), "the schedule doubles");
    health.probes.started(8, 10, at.now);
    health.succeeded(10, at);
    assert_eq!(health.state(), LaneState::Active);
    assert_eq!(health.concurrency(), 1, "it ramps up");
}

#[test]
fn two_different_403s_of_one_flight_are_about_the_credentials() {
    let (mut health, at) = (health(), moment());
    health.forbidden(5, 1, 3, false, at);
    assert_eq!((health.state(), health.concurrency()), (LaneState::Active, 1));
    health.forbidden(6, 1, 3, true, at);
    assert_eq!(health.state(), LaneState::AuthFailed);
    assert!(health.suspects.is_empty());
}

#[test]
fn secrets_are_read_anew_at_once_and_then_every_minute_while_the_credentials_are_bad() {
    let (mut health, at) = (health(), moment());
    assert_eq!(health.secrets_at(), None);
    fail(&mut health, Signal::BadCredential, at);
    assert_eq!(health.secrets_at(), Some(at.now));
    health.secrets_read(false, at.now);
    fail(&mut health, Signal::BadCredential, at);
    assert_eq!(health.secrets_at(), Some(at.now + secs(60)));
    let Mode::Wait(Some(probe)) = health.mode(0, at) else { panic!("it waits") };
    assert_eq!(probe, at.now + secs(300));
    health.secrets_read(true, at.now);
    assert_eq!(health.mode(0, at), Mode::Probe);
}

#[test]
fn a_lane_parked_by_refusals_gives_every_refused_event_back() {
    let (mut health, at) = (health(), moment());
    let rule = |seq: Seq| Some(format!("{}", seq % 3).into());
    let back: Vec<Seq> = (0..17).flat_map(|seq| health.poisoned(seq, rule(seq), at)).collect();
    assert_eq!(back, (0..17).collect::<Vec<_>>());
    assert_eq!(health.state(), LaneState::ConfigFailed);
}

#[test]
fn a_pause_outlasts_what_flights_report() {
    let (mut health, at) = (health(), moment());
    health.pause("soc", T);
    fail(&mut health, Signal::BadCredential, at);
    fail(&mut health, Signal::Throttled(secs(1)), at);
    health.backed_up("full", T);
    health.succeeded(1, at);
    assert_eq!(health.state(), LaneState::Paused);
    health.resume(later(at, secs(2)));
    assert_eq!(health.mode(0, later(at, secs(2))), Mode::Send);
}

#[test]
fn a_parked_lane_stays_parked_when_a_late_answer_asks_to_wait() {
    let (mut health, at) = (health(), moment());
    fail(&mut health, Signal::BadSetting, at);
    fail(&mut health, Signal::Throttled(secs(600)), at);
    assert_eq!(health.state(), LaneState::ConfigFailed);
    assert_eq!(health.mode(0, at), Mode::Wait(Some(at.now + secs(600))));
}
