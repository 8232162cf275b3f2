//! The description of a client: what it said about itself, and what a gateway saw of it. It is shown to people, and no
//! rule depends on it.

use std::sync::Arc;

use crate::text::{ID_MAX, TEXT_MAX, TextError, check_name, check_recorded};

/// The fields of [`ClientInfo`], with the names that errors and JSON give them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ClientField {
    /// The client program's id.
    Id,
    /// The name shown to people.
    DisplayName,
    /// The operating system or device class.
    Platform,
    /// The client program's version.
    Version,
    /// The network address that a gateway saw.
    Address,
    /// The `User-Agent` that a gateway saw.
    UserAgent,
    /// The identity key of the device, as OpenClaw clients have one.
    DeviceKey,
}

impl ClientField {
    /// Every field, in the order in which they are shown.
    pub const ALL: [Self; 7] =
        [Self::Id, Self::DisplayName, Self::Platform, Self::Version, Self::Address, Self::UserAgent, Self::DeviceKey];

    /// The field's name in JSON.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Id => "id",
            Self::DisplayName => "displayName",
            Self::Platform => "platform",
            Self::Version => "version",
            Self::Address => "address",
            Self::UserAgent => "userAgent",
            Self::DeviceKey => "deviceKey",
        }
    }

    const fn label(self) -> &'static str {
        match self {
            Self::Id => "client id",
            Self::DisplayName => "client name",
            Self::Platform => "platform",
            Self::Version => "client version",
            Self::Address => "address",
            Self::UserAgent => "user agent",
            Self::DeviceKey => "device key",
        }
    }

    const fn max(self) -> usize {
        match self {
            Self::Id => ID_MAX,
            _ => TEXT_MAX,
        }
    }
}

/// The description of a client. Every field may be missing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct ClientInfo {
    fields: [Option<Arc<str>>; 7],
}

impl ClientInfo {
    /// Returns the description with one more field.
    ///
    /// # Errors
    /// [`TextError`] that names the field. The text must have 1 to 128 characters for the id and 1 to 256 for the other
    /// fields, no control character, no invisible character and no space at an end.
    pub fn with(self, field: ClientField, text: &str) -> Result<Self, TextError> {
        check_name(field.label(), text, field.max())?;
        Ok(self.set(field, text))
    }

    /// Returns the description with one more field whose text was recorded before. Earlier releases accepted invisible
    /// characters and spaces at the ends.
    ///
    /// # Errors
    /// [`TextError`] that names the field, if the text is empty, too long, or has a control character.
    pub fn with_recorded(self, field: ClientField, text: &str) -> Result<Self, TextError> {
        check_recorded(field.label(), text, field.max())?;
        Ok(self.set(field, text))
    }

    fn set(mut self, field: ClientField, text: &str) -> Self {
        self.fields[field as usize] = Some(Arc::from(text));
        self
    }

    /// Returns the text of a field.
    #[must_use]
    pub fn get(&self, field: ClientField) -> Option<&str> {
        self.fields[field as usize].as_deref()
    }

    /// Returns the fields that have a text, in the order of [`ClientField::ALL`].
    pub fn iter(&self) -> impl Iterator<Item = (ClientField, &str)> {
        ClientField::ALL.into_iter().filter_map(|field| Some((field, self.get(field)?)))
    }

    /// Whether no field has a text.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.fields.iter().all(Option::is_none)
    }

    /// Returns this description, with the fields of `newer` in place of its own where `newer` has them.
    #[must_use]
    pub fn updated_by(&self, newer: &Self) -> Self {
        let mut fields = self.fields.clone();
        for (old, new) in fields.iter_mut().zip(&newer.fields) {
            if new.is_some() {
                old.clone_from(new);
            }
        }
        Self { fields }
    }
}
