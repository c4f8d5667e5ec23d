# tests of packaging
tap_scripts += tests/pack/test_install.py
EXTRA_DIST += tests/pack/test_install.py
