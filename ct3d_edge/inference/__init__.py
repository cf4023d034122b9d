"""From the path of a scan to its result record: prepare, predict, many scans side by side, a watched folder."""
