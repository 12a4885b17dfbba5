//! The lanes that are tortured: one for each way in which Holdfast can send.

pub(crate) struct LaneUnderTest {
    pub(crate) name: &'static str,
    pub(crate) keys: &'static str,
    /// What a kill may repeat at most: `concurrency x batch.max_events`.
    pub(crate) bound: u64,
    /// It sums up what is alike, so that not every alert arrives by itself.
    pub(crate) sums: bool,
}

pub(crate) const LANES: &[LaneUnderTest] = &[
    LaneUnderTest {
        name: "single",
        keys: "concurrency = 8\ncanary = \"1s\"",
        bound: 8,
        sums: false,
    },
    LaneUnderTest {
        name: "batch",
        keys: "concurrency = 2\nexpress_level = 10\ncanary = \"1s\"\n\
               batch = { max_events = 50, max_wait = \"50ms\", format = \"envelope\" }",
        bound: 100,
        sums: false,
    },
    LaneUnderTest {
        name: "strict",
        keys: "order = \"strict\"\n\
               batch = { max_events = 50, max_wait = \"50ms\", format = \"envelope\" }",
        bound: 50,
        sums: false,
    },
    LaneUnderTest {
        name: "keyed",
        keys: "order = \"key\"\norder_key = \"agent.id\"\nconcurrency = 4\nexpress_level = 12\n\
               batch = { max_events = 25, max_wait = \"50ms\", format = \"envelope\" }",
        bound: 100,
        sums: false,
    },
    LaneUnderTest {
        name: "digest",
        keys: "concurrency = 4\nexpress_level = 12\ncanary = \"1s\"\n\
               digest = { by = [\"rule.id\"], window = \"2s\" }",
        bound: 4,
        sums: true,
    },
];
