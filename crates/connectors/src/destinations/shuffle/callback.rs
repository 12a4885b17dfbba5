//! What comes back from Shuffle: an HTTP node at the end of a workflow sends it.
//!
//! It signs nothing; a header that its owner sets holds the secret, or the connection shows a
//! certificate. The body is our own vocabulary ([`crate::callback::own`]).

use crate::callback::{Vendor, own};

pub(super) const VENDOR: Vendor = Vendor::sharing("x-holdfast-secret", own::read);
