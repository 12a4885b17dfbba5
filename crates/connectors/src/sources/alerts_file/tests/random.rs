//! Random histories of a manager and of the gateway, against the list of what was written.

use proptest::prelude::*;

use super::Scene;

#[derive(Clone, Debug)]
enum Act {
    Write(usize),
    WriteHalf,
    Midnight(u32),
    SizeLimit,
    Compress,
    Truncate,
    CatchUp,
    Stop,
    Crash,
    Start,
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        6 => (1_usize..40).prop_map(Act::Write),
        2 => Just(Act::WriteHalf),
        3 => (1_u32..45).prop_map(Act::Midnight),
        3 => Just(Act::SizeLimit),
        2 => Just(Act::Compress),
        1 => Just(Act::Truncate),
        1 => Just(Act::CatchUp),
        2 => Just(Act::Stop),
        2 => Just(Act::Crash),
        4 => Just(Act::Start),
    ]
}

impl Scene {
    async fn act(&mut self, act: &Act) {
        match act {
            Act::Write(count) => self.wazuh.write_alerts(*count),
            Act::WriteHalf => self.wazuh.write_half(),
            Act::Midnight(days) => self.wazuh.midnight(*days),
            Act::SizeLimit => self.wazuh.size_limit(),
            Act::Compress => self.wazuh.compress_old(),
            Act::Truncate => {
                // While it runs, who can say which of the lines it had not read? So all are.
                if self.running.is_some() {
                    self.wazuh.finish();
                    self.until_caught_up().await;
                }
                let taken = self.intake.stored().lines.len();
                self.wazuh.truncate(taken);
            }
            Act::CatchUp if self.running.is_some() => {
                self.wazuh.finish();
                self.until_caught_up().await;
            }
            Act::Stop => self.stop().await,
            Act::Crash => self.crash().await,
            Act::Start if self.running.is_none() => self.start(),
            Act::CatchUp | Act::Start => {}
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 96,
        // A failing case waits for its whole patience each time.
        max_shrink_iters: 20,
        // The same history may well pass: the source's own pace is part of the case.
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn every_line_is_taken_once_and_in_order_whatever_happens(
        history in proptest::collection::vec(act(), 1..40),
    ) {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let mut scene = Scene::running().await;
            for act in &history {
                scene.act(act).await;
            }
            if scene.running.is_none() {
                scene.start();
            }
            // One more at the end tells that nothing came twice before it.
            scene.wazuh.write_alerts(1);
            scene.until_caught_up().await;
            scene.stop().await;
            assert!(scene.intake.stored().rejects.is_empty());
        });
    }
}
