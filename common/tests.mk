# SPDX-License-Identifier: PostgreSQL
#
# common/tests.mk - a daemon's unit tests and fuzzer; included by the Makefiles
# of the daemons behind flags.mk
#
# They set UNIT_DIR and TESTS, in the order in which make -j begins them, FUZZER
# (a source file without .c) and CORPUS, and OBJECTS, all but main.o.

$(BUILD)/unit/%.o: $(UNIT_DIR)/%.c $(BUILD)/flags
	$(CC) $(CPPFLAGS) $(CFLAGS) -Wno-switch-enum -c -o $@ $<

$(BUILD)/unit/test_%: $(BUILD)/unit/test_%.o $(OBJECTS:%=$(BUILD)/%)
	$(CC) $(CFLAGS) $(LDFLAGS) -o $@ $^ $(LDLIBS) \
		$(shell $(PKG_CONFIG) --libs cmocka)

# With -k, one that fails does not stop the others.
RUNS = $(TESTS:%=run-%)

unit: $(RUNS)

$(RUNS): run-%: $(BUILD)/unit/%
	@echo "$<" >&2; $<

$(BUILD)/fuzzer.o: $(FUZZER).c $(BUILD)/flags
	$(CC) $(CPPFLAGS) $(CFLAGS) -c -o $@ $<

$(BUILD)/$(notdir $(FUZZER)): $(BUILD)/fuzzer.o $(OBJECTS:%=$(BUILD)/%)
	$(CC) $(CFLAGS) -fsanitize=fuzzer $(LDFLAGS) -o $@ $^ $(LDLIBS)

# What it finds stays in $(BUILD); what is new to it in $(BUILD)/corpus.
fuzz: $(BUILD)/$(notdir $(FUZZER))
	@mkdir -p $(BUILD)/corpus
	$< -max_total_time=$(FUZZ_SECONDS) -max_len=4096 -timeout=10 -verbosity=0 \
		-print_final_stats=1 -artifact_prefix=$(BUILD)/ $(BUILD)/corpus $(CORPUS)

clean:
	rm -rf $(BUILD)

-include $(wildcard $(BUILD)/*.d $(BUILD)/*/*.d $(BUILD)/*/*/*.d)

.PHONY: unit fuzz clean FORCE $(RUNS)
.SECONDARY:
