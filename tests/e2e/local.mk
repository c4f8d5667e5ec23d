# tests of e2e
e2e_scripts = tests/e2e/test_kill.py tests/e2e/test_run.py tests/e2e/test_rungs.py tests/e2e/test_terminal.py tests/e2e/test_full_disk.py tests/e2e/test_two.py tests/e2e/test_proxies.py
tap_scripts += $(e2e_scripts)
EXTRA_DIST += tests/e2e/taut_e2e.py $(e2e_scripts)
