//! Shows which MSR restores KVM put off, which it performed, and who paid.
