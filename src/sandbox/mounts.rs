//! What a sandbox's file system is made of.
#![forbid(unsafe_code)]

/// What a minimal root has of the host: programs and libraries.
pub const SYSTEM: [&str; 7] = [
    "/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32",
];
