"""Stage `sources`: pinned addresses are fetched, checked and recorded."""
