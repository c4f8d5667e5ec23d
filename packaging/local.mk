# what is installed beside the programs: manual pages, completion, systemd units, documents
EXTRA_DIST += packaging/system/tautd.service.in packaging/system/taut-evaluator@.service.in packaging/user/tautd.service.in \
	packaging/user/taut-evaluator@.service.in packaging/sysusers.conf
dist_man_MANS += packaging/tautd.8 packaging/taut-evaluator.1

# Made from the command's own tables.
EXTRA_DIST += examples/quickstart.json.in
generated = packaging/taut.1 packaging/taut.bash packaging/_taut packaging/taut.fish
CLEANFILES += $(generated)
man_MANS += packaging/taut.1
packaging/taut.1: taut$(EXEEXT)
	$(AM_V_GEN)$(MKDIR_P) packaging && ./taut$(EXEEXT) help --man > $@.new && mv $@.new $@
packaging/taut.bash: taut$(EXEEXT)
	$(AM_V_GEN)$(MKDIR_P) packaging && ./taut$(EXEEXT) completion bash > $@.new && mv $@.new $@
packaging/_taut: taut$(EXEEXT)
	$(AM_V_GEN)$(MKDIR_P) packaging && ./taut$(EXEEXT) completion zsh > $@.new && mv $@.new $@
packaging/taut.fish: taut$(EXEEXT)
	$(AM_V_GEN)$(MKDIR_P) packaging && ./taut$(EXEEXT) completion fish > $@.new && mv $@.new $@

zshdir = $(datadir)/zsh/site-functions
nodist_zsh_DATA = packaging/_taut
fishdir = $(datadir)/fish/vendor_completions.d
nodist_fish_DATA = packaging/taut.fish
bashdir = $(datadir)/bash-completion/completions
all-local: packaging/taut.bash

# The user's manager is the usual one: tautd lets in the user whose it is. The system's units make a machine search for itself, as user taut.
units = packaging/system/tautd.service packaging/system/taut-evaluator@.service packaging/user/tautd.service packaging/user/taut-evaluator@.service
CLEANFILES += $(units)
$(units): Makefile
	$(AM_V_GEN)$(MKDIR_P) $(@D) && sed 's|@bindir[@]|$(bindir)|g' $(srcdir)/$@.in > $@.new && mv $@.new $@
packaging/system/tautd.service: $(srcdir)/packaging/system/tautd.service.in
packaging/system/taut-evaluator@.service: $(srcdir)/packaging/system/taut-evaluator@.service.in
packaging/user/tautd.service: $(srcdir)/packaging/user/tautd.service.in
packaging/user/taut-evaluator@.service: $(srcdir)/packaging/user/taut-evaluator@.service.in
if SYSTEMD
systemunitdir = $(prefix)/lib/systemd/system
nodist_systemunit_DATA = packaging/system/tautd.service packaging/system/taut-evaluator@.service
userunitdir = $(prefix)/lib/systemd/user
nodist_userunit_DATA = packaging/user/tautd.service packaging/user/taut-evaluator@.service
sysusersdir = $(prefix)/lib/sysusers.d
endif

# bash wants the command's own name; sysusers.d the package's. Documents: whatever lies in docs/ and examples/.
install-data-local:
	$(MKDIR_P) "$(DESTDIR)$(bashdir)" "$(DESTDIR)$(docdir)/examples"
	$(INSTALL_DATA) packaging/taut.bash "$(DESTDIR)$(bashdir)/taut"
	$(INSTALL_DATA) $(srcdir)/README.md $(srcdir)/docs/*.md "$(DESTDIR)$(docdir)"
	$(INSTALL_DATA) $(srcdir)/examples/*.* "$(DESTDIR)$(docdir)/examples"
if SYSTEMD
	$(MKDIR_P) "$(DESTDIR)$(sysusersdir)"
	$(INSTALL_DATA) $(srcdir)/packaging/sysusers.conf "$(DESTDIR)$(sysusersdir)/taut.conf"
endif

uninstall-local:
	rm -f "$(DESTDIR)$(bashdir)/taut"
	cd $(srcdir) && for f in README.md docs/*.md; do rm -f "$(DESTDIR)$(docdir)/$${f##*/}"; done
	cd $(srcdir) && for f in examples/*.*; do rm -f "$(DESTDIR)$(docdir)/$$f"; done
	-rmdir "$(DESTDIR)$(docdir)/examples" 2>/dev/null
if SYSTEMD
	rm -f "$(DESTDIR)$(sysusersdir)/taut.conf"
endif
