"""Files and terminals: formats, checksums, reuse of finished rows, addresses, progress, logs."""
