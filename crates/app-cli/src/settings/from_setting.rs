//! Conversion of settings into typed values.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use http::HeaderName;
use ipnet::IpNet;
use tenure_domain::{Millis, Subject};
use tenure_tower::{CookieName, PublicPath};

use super::choice::Choice;
use super::value::{Value, network};

/// A type that the value of a setting can be read as.
pub(crate) trait FromSetting: Sized {
    /// Converts a setting's value, which its kind has checked. `None` if the setting has no value of this type.
    fn from_setting(value: Option<Value>) -> Option<Self>;
}

/// `None` is a setting without a value, or one that is off.
impl<T: FromSetting> FromSetting for Option<T> {
    fn from_setting(value: Option<Value>) -> Option<Self> {
        match value {
            None | Some(Value::Off) => Some(None),
            Some(value) => T::from_setting(Some(value)).map(Some),
        }
    }
}

impl<T: Choice> FromSetting for T {
    fn from_setting(value: Option<Value>) -> Option<Self> {
        T::from_name(&String::from_setting(value)?)
    }
}

impl FromSetting for Millis {
    fn from_setting(value: Option<Value>) -> Option<Self> {
        match value? {
            Value::Span(span) => Some(span),
            _ => None,
        }
    }
}

impl FromSetting for Duration {
    fn from_setting(value: Option<Value>) -> Option<Self> {
        Millis::from_setting(value).map(Self::from)
    }
}

impl FromSetting for u64 {
    fn from_setting(value: Option<Value>) -> Option<Self> {
        match value? {
            Value::Count(count) => Some(count),
            _ => None,
        }
    }
}

impl FromSetting for usize {
    fn from_setting(value: Option<Value>) -> Option<Self> {
        u64::from_setting(value)?.try_into().ok()
    }
}

impl FromSetting for bool {
    fn from_setting(value: Option<Value>) -> Option<Self> {
        match value? {
            Value::Flag(flag) => Some(flag),
            _ => None,
        }
    }
}

impl FromSetting for String {
    fn from_setting(value: Option<Value>) -> Option<Self> {
        match value? {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }
}

impl FromSetting for PathBuf {
    fn from_setting(value: Option<Value>) -> Option<Self> {
        String::from_setting(value).map(Self::from)
    }
}

impl FromSetting for SocketAddr {
    fn from_setting(value: Option<Value>) -> Option<Self> {
        String::from_setting(value)?.parse().ok()
    }
}

impl FromSetting for IpAddr {
    fn from_setting(value: Option<Value>) -> Option<Self> {
        String::from_setting(value)?.parse().ok()
    }
}

impl FromSetting for HeaderName {
    fn from_setting(value: Option<Value>) -> Option<Self> {
        String::from_setting(value)?.parse().ok()
    }
}

impl FromSetting for Subject {
    fn from_setting(value: Option<Value>) -> Option<Self> {
        Self::new(&String::from_setting(value)?).ok()
    }
}

impl FromSetting for CookieName {
    fn from_setting(value: Option<Value>) -> Option<Self> {
        Self::new(&String::from_setting(value)?)
    }
}

impl FromSetting for Vec<String> {
    fn from_setting(value: Option<Value>) -> Option<Self> {
        match value? {
            Value::List(items) => Some(items),
            _ => None,
        }
    }
}

impl FromSetting for Vec<IpNet> {
    fn from_setting(value: Option<Value>) -> Option<Self> {
        Vec::<String>::from_setting(value)?.iter().map(|text| network(text)).collect()
    }
}

impl FromSetting for Vec<PublicPath> {
    fn from_setting(value: Option<Value>) -> Option<Self> {
        Some(Vec::<String>::from_setting(value)?.into_iter().map(PublicPath).collect())
    }
}
