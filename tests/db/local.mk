# tests of db
db_test_libs = libdb.a libspacejson.a libspace.a libbasejson.a libbase.a $(SQLITE_LIBS) $(JANSSON_LIBS) -lm
check_PROGRAMS += tests/db/test_fold
tests_db_test_fold_SOURCES = tests/db/test_fold.c tests/db/db.h
tests_db_test_fold_LDADD = $(db_test_libs)
check_PROGRAMS += tests/db/test_store
tests_db_test_store_SOURCES = tests/db/test_store.c tests/db/db.h
tests_db_test_store_LDADD = $(db_test_libs)
check_PROGRAMS += tests/db/test_verify
tests_db_test_verify_SOURCES = tests/db/test_verify.c tests/db/db.h
tests_db_test_verify_LDADD = $(db_test_libs)
