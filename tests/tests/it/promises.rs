//! The conformance suite, stamped for every store.

use tenure_conformance::conformance;

conformance!(model, tenure_tests::fixtures::memory);
conformance!(json, tenure_tests::fixtures::json);
conformance!(redis, tenure_tests::fixtures::redis);
conformance!(redis_near, tenure_tests::fixtures::redis_near);
