# tests of controller
tap_scripts += tests/controller/test_docs.py
EXTRA_DIST += tests/controller/taut_wire.py tests/controller/test_docs.py
