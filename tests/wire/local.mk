# tests of wire
EXTRA_DIST += tests/wire/fixture.h
WIRE_TEST_LIBS = libwire.a libbasejson.a libbase.a $(UV_LIBS) $(JANSSON_LIBS) -lm
check_PROGRAMS += tests/wire/test_frame tests/wire/test_rpc tests/wire/test_batch tests/wire/test_flush tests/wire/test_conn \
	tests/wire/test_client tests/wire/test_paths tests/wire/test_fuzz
tests_wire_test_frame_SOURCES = tests/wire/test_frame.c
tests_wire_test_frame_LDADD = $(WIRE_TEST_LIBS)
tests_wire_test_rpc_SOURCES = tests/wire/test_rpc.c
tests_wire_test_rpc_LDADD = $(WIRE_TEST_LIBS)
tests_wire_test_batch_SOURCES = tests/wire/test_batch.c
tests_wire_test_batch_LDADD = $(WIRE_TEST_LIBS)
tests_wire_test_flush_SOURCES = tests/wire/test_flush.c
tests_wire_test_flush_LDADD = $(WIRE_TEST_LIBS)
tests_wire_test_conn_SOURCES = tests/wire/test_conn.c
tests_wire_test_conn_LDADD = $(WIRE_TEST_LIBS)
tests_wire_test_client_SOURCES = tests/wire/test_client.c
tests_wire_test_client_LDADD = $(WIRE_TEST_LIBS)
tests_wire_test_paths_SOURCES = tests/wire/test_paths.c
tests_wire_test_paths_LDADD = $(WIRE_TEST_LIBS)
tests_wire_test_fuzz_SOURCES = tests/wire/test_fuzz.c
tests_wire_test_fuzz_LDADD = $(WIRE_TEST_LIBS)
