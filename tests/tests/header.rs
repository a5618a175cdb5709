//! dmtcp.h: it compiles, and it says what the Rust side says.
//!
//! The check is generated: from the sources of the core come C declarations of every function, structure and number that it
//! has for C. Behind `#include "dmtcp.h"` they compile only if the header says the same.

use dmtcp_tests::examples::{compile, root};
use dmtcp_tests::scenario::text;
use dmtcp_tests::{Case, Context, Program, Result, RunAs, Scenario, bail, ensure, runner};
use quote::ToTokens;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::{Command, ExitCode};

fn header_compiles(s: &mut Scenario) -> Result<()> {
    let source = s.path("both.c");
    let program = "#include \"dmtcp.h\"\nint main(void) { return dmtcp_checkpoint() != DMTCP_NOT_PRESENT || \
                   dmtcp_is_enabled() || dmtcp_get_ckpt_dir()[0]; }\n";
    fs::write(&source, program)?;
    for compiler in [["gcc", "-std=c99"], ["g++", "-std=c++11"]] {
        for position in [["-fPIE", "-pie"], ["-fno-pie", "-no-pie"]] {
            let words = [compiler[0], compiler[1], "-Wall", "-Wextra", "-pedantic", position[0], position[1]];
            let path = compile(s, &words, &source, "both")?;
            let ended = s.output(s.command(&path.display().to_string()))?;
            ensure!(
                ended.status.success(),
                "{compiler:?} {position:?}: without us the answers are wrong: {}",
                ended.status
            );
        }
    }
    let source = s.path("kvdb.cpp");
    let program = "#include \"kvdb.h\"\nusing namespace dmtcp::kvdb;\nint main() { int64_t n; std::string old;\n\
                   return get64(\"d\", \"k\", &n) != KVDBResponse::NOT_PRESENT ||\n\
                   request(KVDBRequest::SET, \"d\", \"k\", \"v\", &old) != KVDBResponse::NOT_PRESENT; }\n";
    fs::write(&source, program)?;
    let path = compile(s, &["g++", "-std=c++11", "-Wall", "-Wextra", "-pedantic"], &source, "kvdb")?;
    let ended = s.output(s.command(&path.display().to_string()))?;
    ensure!(ended.status.success(), "kvdb.h: without us the answers are wrong: {}", ended.status);
    Ok(())
}

/// Names that are followed by a parenthesis in declarations of the header.
fn declared(header: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let offered = header.split("/* ---- Part 7").next().unwrap_or(header);
    for line in offered.lines().filter(|line| line.starts_with("EXTERNC")) {
        let name = line.split('(').next().and_then(|before| before.split([' ', '*']).next_back()).unwrap_or_default();
        names.insert(name.to_owned());
    }
    // What plugins define, and the library calls.
    names.remove("dmtcp_initialize_plugin");
    names
}

fn header_and_library_agree(s: &mut Scenario) -> Result<()> {
    let declared = declared(&fs::read_to_string(root().join("include/dmtcp.h"))?);
    let launch = s.tool("dmtcp_launch").get_program().to_os_string();
    let library = Path::new(&launch).with_file_name("libdmtcp.so");
    let symbols = Command::new("nm").args(["-D", "--defined-only"]).arg(&library).output().context("cannot run nm")?;
    let exported: BTreeSet<String> = text(&symbols)
        .lines()
        .filter_map(|line| line.split(' ').next_back())
        .filter(|name| ["dmtcp_", "checkpoint_", "Dmtcp"].iter().any(|start| name.starts_with(start)))
        // What plugins and debuggers find by name, and no program calls.
        .filter(|name| !["dmtcp_core_wire", "dmtcp_restart_pause"].contains(name))
        .map(str::to_owned)
        .collect();
    let (missing, secret): (Vec<_>, Vec<_>) =
        (declared.difference(&exported).collect(), exported.difference(&declared).collect());
    ensure!(missing.is_empty(), "declared in dmtcp.h, not exported by {}: {missing:?}", library.display());
    ensure!(secret.is_empty(), "exported by {}, not declared in dmtcp.h: {secret:?}", library.display());
    Ok(())
}

/// Rust types of the interface, and what the header calls them.
const TYPES: [(&str, &str); 20] = [
    ("c_int", "int"),
    ("c_char", "char"),
    ("c_void", "void"),
    ("i32", "int32_t"),
    ("i64", "int64_t"),
    ("u32", "uint32_t"),
    ("u64", "uint64_t"),
    ("usize", "size_t"),
    ("AtomicU32", "uint32_t"),
    ("AtomicU64", "uint64_t"),
    ("in_addr", "struct in_addr"),
    ("mode_t", "mode_t"),
    ("Descriptor", "DmtcpPluginDescriptor_t"),
    ("UniqueId", "DmtcpUniqueProcessId"),
    ("Mutex", "DmtcpMutex"),
    ("MutexType", "DmtcpMutexType"),
    ("RwLock", "DmtcpRWLock"),
    ("KvdbRequest", "DmtcpKvdbRequest_t"),
    ("KvdbResponse", "DmtcpKvdbResponse_t"),
    ("RestartEnvErr", "DmtcpGetRestartEnvErr_t"),
];

/// Structures: file, name in Rust, name and fields in the header.
const STRUCTURES: [(&str, &str, &str, &[&str]); 5] = [
    (
        "core/src/interface/plugins.rs",
        "Descriptor",
        "DmtcpPluginDescriptor_t",
        &["pluginApiVersion", "dmtcpVersion", "pluginName", "authorName", "authorEmail", "description", "event_hook"],
    ),
    (
        "core/src/interface/identity.rs",
        "UniqueId",
        "DmtcpUniqueProcessId",
        &["_hostid", "_time", "_pid", "_computation_generation"],
    ),
    (
        "core/src/interface/regions.rs",
        "Area",
        "ProcMapsArea",
        &["addr", "endAddr", "size", "prot", "flags", "offset", "name"],
    ),
    ("core/src/interface/mutex.rs", "Mutex", "DmtcpMutex", &["word", "type", "owner", "depth", "reserved"]),
    ("core/src/interface/mutex.rs", "RwLock", "DmtcpRWLock", &["state", "queued", "change", "reserved"]),
];

/// What events come with: name in Rust, name and fields in the union.
const PAYLOADS: [(&str, &str, &[&str]); 9] = [
    ("PreExec", "preExec", &["serializationFd", "filename", "maxArgs", "argv", "maxEnv", "envp"]),
    ("PostExec", "postExec", &["serializationFd"]),
    ("ThreadResume", "resumeUserThreadInfo", &["isRestart"]),
    ("OpenFd", "openFd", &["fd", "path", "flags", "mode"]),
    ("ReopenFd", "reopenFd", &["fd", "path", "flags"]),
    ("CloseFd", "closeFd", &["fd"]),
    ("DupFd", "dupFd", &["oldFd", "newFd"]),
    ("VirtualToRealPath", "virtualToRealPath", &["path"]),
    ("RealToVirtualPath", "realToVirtualPath", &["path"]),
];

/// Numbers: file, prefix in the header, names in Rust and (behind a colon, if it is another) in the header.
const NUMBERS: [(&str, &str, &[&str]); 6] = [
    ("core/src/interface/application.rs", "DMTCP_", &["AFTER_CHECKPOINT", "AFTER_RESTART"]),
    ("core/src/interface/mod.rs", "DMTCP_", &["NOT_PRESENT", "PRESENT:IS_PRESENT"]),
    (
        "core/src/interface/settings.rs",
        "RESTART_ENV_",
        &[
            "NOT_FOUND:NOTFOUND",
            "TOO_LONG:TOOLONG",
            "BUFFER_TOO_SMALL:DMTCP_BUF_TOO_SMALL",
            "NULL_POINTER:NULL_PTR",
            "LONGEST:MAXSIZE",
        ],
    ),
    (
        "core/src/interface/names.rs",
        "DMTCP_KVDB_",
        &["SUCCESS", "INVALID_REQUEST", "DB_NOT_FOUND", "KEY_NOT_FOUND", "TOO_LONG", "NOT_PRESENT"],
    ),
    ("core/src/interface/mutex.rs", "DMTCP_MUTEX_", &["RECURSIVE", "PLAIN:LLL"]),
    ("plugin-api/src/abi.rs", "DMTCP_KVDB_", &["GET", "SET", "ADD:INCRBY", "AND", "OR", "XOR", "MIN", "MAX"]),
];

fn parse(path: &Path) -> Result<syn::File> {
    syn::parse_file(&fs::read_to_string(path)?).with_context(|| format!("cannot parse {}", path.display()))
}

/// A Rust type in C.
fn c_type(kind: &syn::Type) -> Result<String> {
    match kind {
        syn::Type::Ptr(pointer) => {
            let is_constant = pointer.to_token_stream().to_string().starts_with("* const");
            let constant = if is_constant { "const " } else { "" };
            Ok(format!("{constant}{} *", c_type(&pointer.elem)?))
        }
        syn::Type::Path(path) => {
            let name = path.path.segments.last().map(|s| s.ident.to_string()).unwrap_or_default();
            if name == "Option" || name == "Hook" {
                return Ok("void *".into());
            }
            let known = TYPES.iter().find(|(rust, _)| *rust == name);
            Ok(known.with_context(|| format!("'{name}' is no type of the interface"))?.1.into())
        }
        other => bail!("'{}' is no type of the interface", other.to_token_stream()),
    }
}

/// A declaration in C of each function that a file exports.
fn functions(file: &syn::File, into: &mut String) -> Result<usize> {
    let mut count = 0;
    for item in &file.items {
        let syn::Item::Fn(function) = item else { continue };
        let exported = function.attrs.iter().any(|a| a.to_token_stream().to_string().contains("no_mangle"));
        if !exported {
            continue;
        }
        let signature = &function.sig;
        let result = match &signature.output {
            syn::ReturnType::Default => "void".to_owned(),
            syn::ReturnType::Type(_, kind) => c_type(kind)?,
        };
        let mut arguments = Vec::new();
        for argument in &signature.inputs {
            if let syn::FnArg::Typed(argument) = argument {
                arguments.push(c_type(&argument.ty)?);
            }
        }
        let arguments = if arguments.is_empty() { "void".to_owned() } else { arguments.join(", ") };
        // In parentheses, a name is no macro.
        into.push_str(&format!("{result} ({})({arguments});\n", signature.ident));
        count += 1;
    }
    Ok(count)
}

/// The names and values of all constants, also those of modules inside the file.
fn constants(items: &[syn::Item], into: &mut BTreeMap<String, String>) {
    for item in items {
        match item {
            syn::Item::Const(constant) => {
                let value = constant.expr.to_token_stream().to_string().replace(['_', ' '], "");
                into.insert(constant.ident.to_string(), value);
            }
            syn::Item::Mod(module) => constants(module.content.as_ref().map_or(&[], |(_, items)| items), into),
            _ => {}
        }
    }
}

/// A name as the original writes its events.
fn event_name(variant: &str) -> String {
    let mut out = String::new();
    for letter in variant.replace("PreS", "Pres").replace("PreC", "Prec").chars() {
        if letter.is_uppercase() && !out.is_empty() {
            out.push('_');
        }
        out.extend(letter.to_uppercase());
    }
    format!("DMTCP_EVENT_{out}")
}

fn equal(out: &mut String, left: &str, right: &str) {
    out.push_str(&format!("CHECK({left} == {right}, \"{} != {}\");\n", left.replace('"', ""), right.replace('"', "")));
}

fn structures(out: &mut String) -> Result<()> {
    let payload = |(rust, c, fields): (_, &str, _)| {
        ("plugin-api/src/abi/payload.rs", rust, format!("__typeof__(((DmtcpEventData_t *)0)->{c})"), fields)
    };
    let named = STRUCTURES.map(|(path, rust, c, fields)| (path, rust, c.to_owned(), fields));
    for (path, rust, c, fields) in named.into_iter().chain(PAYLOADS.map(payload)) {
        let file = parse(&root().join(path))?;
        let found = file.items.iter().find_map(|item| match item {
            syn::Item::Struct(structure) if structure.ident == rust => Some(structure),
            _ => None,
        });
        let structure = found.with_context(|| format!("{path} has no {rust}"))?;
        ensure!(structure.fields.len() == fields.len(), "{rust} and {c} have different numbers of fields");
        out.push_str(&format!("struct rust_{rust} {{\n"));
        for (index, field) in structure.fields.iter().enumerate() {
            out.push_str(&format!("  {} f{index};\n", c_type(&field.ty)?));
        }
        out.push_str("};\n");
        equal(out, &format!("sizeof({c})"), &format!("sizeof(struct rust_{rust})"));
        for (index, field) in fields.iter().enumerate() {
            equal(out, &format!("offsetof({c}, {field})"), &format!("offsetof(struct rust_{rust}, f{index})"));
        }
    }
    Ok(())
}

fn numbers(out: &mut String) -> Result<()> {
    for (path, prefix, names) in NUMBERS {
        let mut found = BTreeMap::new();
        constants(&parse(&root().join(path))?.items, &mut found);
        for name in names {
            let (rust, c) = name.split_once(':').unwrap_or((name, name));
            let value = found.get(rust).with_context(|| format!("{path} has no constant {rust}"))?;
            equal(out, &format!("(long)({prefix}{c})"), &format!("(long)({value})"));
        }
    }
    let file = parse(&root().join("plugin-api/src/abi.rs"))?;
    let events = file.items.iter().find_map(|item| match item {
        syn::Item::Enum(list) if list.ident == "Event" => Some(&list.variants),
        _ => None,
    });
    for variant in events.context("plugin-api has no events")? {
        let number = variant.discriminant.as_ref().map(|(_, value)| value.to_token_stream().to_string());
        let number = number.context("an event has no number")?;
        // Above all of the original's: not for C.
        if number.parse::<u32>()? < 100 {
            equal(out, &event_name(&variant.ident.to_string()), &number);
        }
    }
    equal(out, "nDmtcpEvents", "27");
    Ok(())
}

/// The source of the check.
fn generate() -> Result<String> {
    let mut out = String::from(
        "#include \"dmtcp.h\"\n#include <stddef.h>\n\
         #ifdef __cplusplus\n#define CHECK(condition, text) static_assert(condition, text)\nextern \"C\" {\n#else\n\
         #define CHECK(condition, text) _Static_assert(condition, text)\n#endif\n",
    );
    let mut count = 0;
    for entry in fs::read_dir(root().join("core/src/interface"))? {
        count += functions(&parse(&entry?.path())?, &mut out)?;
    }
    ensure!(count >= 60, "only {count} functions were found in core/src/interface");
    structures(&mut out)?;
    numbers(&mut out)?;
    out.push_str("#ifdef __cplusplus\n}\n#endif\n");
    Ok(out)
}

fn check_with(s: &mut Scenario, compilers: &[[&str; 2]]) -> Result<()> {
    let source = s.path("check.c");
    let good = generate()?;
    fs::write(&source, &good)?;
    for compiler in compilers {
        let words = [compiler[0], compiler[1], "-Wall", "-Wextra", "-c"];
        compile(s, &words, &source, "check.o")?;
    }
    // And it would find a difference.
    for (was, is) in [
        ("DMTCP_EVENT_RESTART == 18", "DMTCP_EVENT_RESTART == 17"),
        ("(dmtcp_get_generation)(void", "(dmtcp_get_generation)(int"),
    ] {
        ensure!(good.contains(was), "the check lacks '{was}'");
        fs::write(&source, good.replace(was, is))?;
        let compiled = compile(s, &[compilers[0][0], compilers[0][1], "-c"], &source, "check.o");
        ensure!(compiled.is_err(), "'{is}' was not noticed");
    }
    Ok(())
}

fn header_says_what_the_core_says(s: &mut Scenario) -> Result<()> {
    check_with(s, &[["gcc", "-std=gnu11"], ["g++", "-std=c++11"], ["g++", "-std=c++20"]])
}

fn header_says_so_to_clang(s: &mut Scenario) -> Result<()> {
    check_with(s, &[["clang", "-std=gnu11"], ["clang", "-xc++"]])
}

fn main() -> ExitCode {
    let case = |name, flow: fn(&mut Scenario) -> Result<()>| {
        Case::flow(name, Program::c("threads.c", &[]), flow).only(RunAs::User).sampled_as(RunAs::User)
    };
    runner::main(vec![
        case("dmtcp_h_compiles_in_c_and_cxx_and_answers_without_us", header_compiles),
        case("dmtcp_h_and_the_library_agree", header_and_library_agree),
        case("dmtcp_h_says_what_the_core_says", header_says_what_the_core_says),
        case("dmtcp_h_says_what_the_core_says_to_clang", header_says_so_to_clang).full_only(),
    ])
}
