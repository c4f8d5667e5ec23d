# wire
noinst_LIBRARIES += libwire.a
libwire_a_SOURCES = wire/wire.h wire/methods.def wire/methods.c wire/frame.c wire/frame.h wire/internal.h wire/rpc.c \
	wire/server.c wire/client.c wire/paths.c
