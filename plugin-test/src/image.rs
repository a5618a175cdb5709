//! What a plugin said at a checkpoint.

use dmtcp_plugin_api::core::Level;

/// A descriptor that was offered to the claimers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offered {
    /// Its number.
    pub number: i32,
    /// The number that its object has in the image.
    pub object: u64,
    /// Which claimer took it.
    pub owner: Option<String>,
}

/// What one checkpoint has brought: the restart half sees of it the sections and the blobs.
#[derive(Clone, Debug, Default)]
pub struct Image {
    /// Name and bytes.
    pub sections: Vec<(String, Vec<u8>)>,
    /// Name and bytes.
    pub blobs: Vec<(String, Vec<u8>)>,
    /// Claimed mappings: start, object, offset.
    pub mappings: Vec<(u64, u64, u64)>,
    /// What was offered, in its order.
    pub descriptors: Vec<Offered>,
    /// Sentences about what nobody can save.
    pub unsupported: Vec<String>,
    /// Why there is to be no checkpoint.
    pub failure: Option<String>,
    /// What was said to the user.
    pub told: Vec<String>,
    /// What was logged.
    pub logged: Vec<(Level, String)>,
}

impl Image {
    /// The bytes of a section.
    pub fn section(&self, name: &str) -> Option<&[u8]> {
        self.sections.iter().find(|s| s.0 == name).map(|s| &s.1[..])
    }

    /// A section in JSON.
    ///
    /// # Panics
    /// If there is no such section, or it does not parse: either fails the test that asks.
    pub fn json<T: serde::de::DeserializeOwned>(&self, name: &str) -> T {
        let Some(bytes) = self.section(name) else { panic!("the plugin has written no section '{name}'") };
        serde_json::from_slice(bytes).unwrap_or_else(|e| panic!("section '{name}' does not parse: {e}"))
    }

    /// The object number of a descriptor that was offered and claimed.
    pub fn object_of(&self, number: i32) -> Option<u64> {
        self.descriptors.iter().find(|d| d.number == number && d.owner.is_some()).map(|d| d.object)
    }
}
