//! Two-way exchange: what lookups answer comes back as events, and messages carry it.

mod answers;
mod enrichment;
mod lookup;
