//! Whether an image can come to life on this machine and for this user. All doubts are told at once.

use dmtcp_image::PAGE;
use dmtcp_image::processor::{self, Component};
use dmtcp_image::read::Image;
use dmtcp_image::record::flag;

/// A reason not to restart here.
#[derive(Debug, thiserror::Error)]
pub enum Doubt {
    /// The image belongs to somebody else.
    #[error("{image} is of user {owner}, you are {user}: restart it as that user, or with --no-strict-checking")]
    User {
        /// The image.
        image: String,
        /// Its owner.
        owner: u32,
        /// Who asks.
        user: u32,
    },
    /// Pages have another size.
    #[error("this machine has pages of {0} bytes, images are made for {PAGE}: restart on another machine")]
    Page(u64),
    /// The kernel or the processor lacks state components, or keeps them where they cannot be moved to.
    #[error(
        "{image} holds processor state that this machine cannot load (components {components:?} of XCR0, here {here:#x}): restart on a machine with at least the same processor features"
    )]
    State {
        /// The image.
        image: String,
        /// What is in use there and missing here.
        components: Vec<u32>,
        /// What there is.
        here: u64,
    },
    /// Instructions are missing.
    #[error(
        "{image} was taken on a processor that also has {features}: programs that use them would die; restart on such a machine, or with --no-strict-checking if this program does not"
    )]
    Features {
        /// The image.
        image: String,
        /// Which.
        features: String,
    },
    /// Shadow stacks cannot be rebuilt.
    #[error(
        "{image} uses a shadow stack, which cannot be restored: start the program with GLIBC_TUNABLES=glibc.cpu.x86_shstk=off"
    )]
    ShadowStack {
        /// The image.
        image: String,
    },
}

/// All doubts about these images.
pub fn doubts(images: &[Image], strict: bool) -> Vec<Doubt> {
    let mut doubts = Vec::new();
    let page = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE).ok().flatten().unwrap_or(0) as u64;
    if page != PAGE {
        doubts.push(Doubt::Page(page));
    }
    let user = nix::unistd::geteuid().as_raw();
    let here = processor::enabled_state();
    let present: Vec<Component> = processor::components(here).collect();
    let features = processor::features();
    for image in images {
        let name = image.path.display().to_string();
        let identity = &image.identity;
        if strict && identity.uid != user {
            doubts.push(Doubt::User { image: name.clone(), owner: identity.uid, user });
        }
        let components = foreign_state(image.restore.state_in_use, &identity.cpu_state, here, &present);
        if !components.is_empty() {
            doubts.push(Doubt::State { image: name.clone(), components, here });
        }
        let missing = missing(&identity.cpu_features, &features);
        if strict && !missing.is_empty() {
            doubts.push(Doubt::Features { image: name.clone(), features: missing.join(" ") });
        }
        if image.regions.iter().any(|region| region.flags & flag::SHADOWSTACK != 0) {
            doubts.push(Doubt::ShadowStack { image: name });
        }
    }
    doubts
}

/// The components in use that a restored thread could not load: this machine does not have them, has them in another
/// size, or so far away that there is no room.
fn foreign_state(in_use: u64, there: &[Component], here: u64, present: &[Component]) -> Vec<u32> {
    let lost = |number: &u32| in_use & !processor::DISPENSABLE & !here & 1 << number != 0;
    let unlike = |old: &&Component| {
        let new = present.iter().find(|new| new.number == old.number);
        let end = |new: &Component| (new.offset + new.size) as usize;
        new.is_some_and(|new| new != *old && (new.size != old.size || end(new) + 4 > processor::FIT_ROOM))
    };
    let unlike = there.iter().filter(|old| in_use & 1 << old.number != 0).filter(unlike).map(|old| old.number);
    (0..64).filter(lost).chain(unlike).collect()
}

/// The features that programs could use there and cannot use here.
fn missing(there: &[String], here: &[String]) -> Vec<String> {
    there.iter().filter(|feature| !here.contains(feature)).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const AVX: Component = Component { number: 2, offset: 576, size: 256 };
    const MASKS: Component = Component { number: 5, offset: 1088, size: 64 };

    #[test]
    fn features_are_missed_by_name() {
        let list = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(missing(&list("avx512f rdrand"), &list("rdrand avx")), ["avx512f"]);
    }

    #[test]
    fn state_may_lie_elsewhere_or_be_lost_if_nobody_used_it() {
        let nearer = Component { offset: 832, ..MASKS };
        assert!(foreign_state(0x27, &[AVX, MASKS], 0x27, &[AVX, nearer]).is_empty());
        assert!(foreign_state(0x7, &[AVX, MASKS], 0x7, &[AVX]).is_empty());
        assert!(foreign_state(0x7 | processor::DISPENSABLE, &[AVX], 0x7, &[AVX]).is_empty());
    }

    #[test]
    fn state_in_use_that_cannot_be_loaded_is_refused() {
        assert_eq!(foreign_state(0x27, &[AVX, MASKS], 0x7, &[AVX]), [5]);
        let larger = Component { size: 128, ..MASKS };
        assert_eq!(foreign_state(0x27, &[AVX, MASKS], 0x27, &[AVX, larger]), [5]);
        let far = Component { offset: 4096, ..MASKS };
        assert_eq!(foreign_state(0x27, &[AVX, MASKS], 0x27, &[AVX, far]), [5]);
    }
}
