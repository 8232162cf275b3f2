//! The conformance suite, stamped for every store.

use tenure_tests::conformance;

conformance!(model, tenure_tests::stand::Stand::model);
conformance!(json, tenure_tests::stand::Stand::json);
conformance!(redis, tenure_tests::stand::Stand::redis);
conformance!(redis_near, tenure_tests::stand::Stand::redis_near);
