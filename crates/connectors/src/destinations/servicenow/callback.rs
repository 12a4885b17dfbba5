//! What comes back from ServiceNow: a business rule or flow sends it with a REST message.
//!
//! It signs nothing; a header that its owner sets holds the secret, or the connection shows a
//! certificate. The body is our own vocabulary ([`crate::callback::own`]).

use crate::callback::{Vendor, own};

pub(super) const VENDOR: Vendor = Vendor::sharing("x-holdfast-secret", own::read);
