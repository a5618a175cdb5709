//! Whether an image can come to life on this machine and for this user. All doubts are told at once.

use crate::cpu;
use dmtcp_image::PAGE;
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
    /// The kernel or the processor lacks state components.
    #[error(
        "{image} holds processor state that this machine cannot load (XCR0 {wanted:#x}, here {here:#x}): restart on a machine with at least the same processor features"
    )]
    State {
        /// The image.
        image: String,
        /// What it holds.
        wanted: u64,
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
    let here = cpu::xcr0();
    let mut features = None;
    for image in images {
        let name = image.path.display().to_string();
        let identity = &image.identity;
        if strict && identity.uid != user {
            doubts.push(Doubt::User { image: name.clone(), owner: identity.uid, user });
        }
        let wanted = image.restore.xcr0;
        if wanted & !here != 0 {
            doubts.push(Doubt::State { image: name.clone(), wanted, here });
        }
        if strict && !identity.cpu_features.is_empty() {
            let features = features.get_or_insert_with(|| cpu::features().unwrap_or_default());
            let missing = missing(&identity.cpu_features, features);
            if !features.is_empty() && !missing.is_empty() {
                doubts.push(Doubt::Features { image: name.clone(), features: missing.join(" ") });
            }
        }
        if image.regions.iter().any(|region| region.flags & flag::SHADOWSTACK != 0) {
            doubts.push(Doubt::ShadowStack { image: name });
        }
    }
    doubts
}

/// The features that programs could use there and cannot use here.
fn missing(there: &[String], here: &[String]) -> Vec<String> {
    there.iter().filter(|feature| cpu::is_for_programs(feature) && !here.contains(feature)).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_programs_use_is_missed() {
        let list = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(missing(&list("avx512f smep rdrand mds_clear"), &list("rdrand")), ["avx512f"]);
    }

    #[test]
    fn this_machine_is_understood() {
        assert_eq!(cpu::xcr0() & 1, 1);
        assert!(cpu::features().unwrap().iter().any(|feature| feature == "sse2"));
    }
}
