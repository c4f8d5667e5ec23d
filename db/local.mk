# db
noinst_LIBRARIES += libdb.a
libdb_a_SOURCES = db/archive.h db/archive_impl.h db/db.h db/internal.h \
	db/archive.c db/archive_front.c db/archive_load.c db/curve.c db/event.c db/fold.c db/fs.c db/read.c \
	db/schema.c db/slots.c db/store.c db/text.c db/verify.c
