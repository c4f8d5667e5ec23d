# tests of cli
tap_scripts += tests/cli/test_calls.py
EXTRA_DIST += tests/cli/test_calls.py

tap_scripts += tests/cli/test_local.py
EXTRA_DIST += tests/cli/test_local.py

tap_scripts += tests/cli/test_report.py
EXTRA_DIST += tests/cli/test_report.py

tap_scripts += tests/cli/test_show.py
EXTRA_DIST += tests/cli/test_show.py

tap_scripts += tests/cli/test_bench.py
EXTRA_DIST += tests/cli/test_bench.py

tap_scripts += tests/cli/test_export_hf.py
EXTRA_DIST += tests/cli/test_export_hf.py

tap_scripts += tests/cli/test_liar.py
EXTRA_DIST += tests/cli/test_liar.py
