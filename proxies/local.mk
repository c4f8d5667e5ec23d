# proxies
noinst_LIBRARIES += libproxies.a
libproxies_a_SOURCES = proxies/proxy.h proxies/proxy.c proxies/internal.h proxies/proxies.def proxies/spectrum.c \
	proxies/params.c proxies/decoder_params.c proxies/flops.c proxies/gradnorm.c proxies/snip.c proxies/grasp.c proxies/synflow.c \
	proxies/fisher.c proxies/jacov.c proxies/naswot.c proxies/zico.c proxies/dss.c proxies/wpca.c
