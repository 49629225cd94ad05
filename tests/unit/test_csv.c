/*
 * test_csv.c - cells that are quoted, and cells that a spreadsheet must not run
 *
 * SPDX-License-Identifier: PostgreSQL
 */
#include "unit.h"

#include "common/csv.h"

static void
expect_cell(const char *text, const char *cell)
{
	Buf line = {0};

	csv_add_cell(&line, text);
	assert_string_equal(buf_str(&line), cell);
	buf_free(&line);
}

static void
cells_are_quoted(void **state UNUSED)
{
	expect_cell(NULL, "\"\"");
	expect_cell("", "\"\"");
	expect_cell("a", "\"a\"");
	expect_cell("a,b;c\td", "\"a,b;c\td\"");
	expect_cell("a\r\nb", "\"a\r\nb\"");
	expect_cell("\"", "\"\"\"\"");
	expect_cell("a\"\"b\"", "\"a\"\"\"\"b\"\"\"");
}

static void
formulas_are_not(void **state UNUSED)
{
	expect_cell("=1+1", "\"'=1+1\"");
	expect_cell("+1", "\"'+1\"");
	expect_cell("-1", "\"'-1\"");
	expect_cell("@SUM(A1)", "\"'@SUM(A1)\"");
	expect_cell("\t=1", "\"'\t'=1\"");
	expect_cell("\r=1", "\"'\r'=1\"");
	expect_cell("\n=1", "\"'\n'=1\"");
	expect_cell("=\"a\"", "\"'=\"\"a\"\"\"");
	expect_cell("a=1", "\"a=1\"");
	expect_cell("'=1", "\"'=1\"");
}

/*
 * Read with ';' or a tab between cells, as by a spreadsheet of another
 * language, a part of a cell of ours is a cell.
 */
static void
formulas_behind_another_separator_are_not(void **state UNUSED)
{
	expect_cell("a;=1", "\"a;'=1\"");
	expect_cell("a;b; =1", "\"a;b;' =1\"");
	expect_cell("a;\"=1\"", "\"a;'\"\"=1\"\"\"");
	expect_cell("a\t+1", "\"a\t'+1\"");
	expect_cell("a\r\n@b", "\"a\r\n'@b\"");
	expect_cell("a|-1", "\"a|'-1\"");
	expect_cell(";;=1", "\";;'=1\"");
	expect_cell("\uff1d1", "\"'\uff1d1\"");
	expect_cell("[1,-2]", "\"[1,-2]\"");
	expect_cell("a;b", "\"a;b\"");
}

static void
lines_hold_cells(void **state UNUSED)
{
	Buf line = {0};

	csv_add_cell(&line, "1");
	csv_add_cell(&line, NULL);
	csv_add_cell(&line, "-");
	csv_end_line(&line);
	assert_string_equal(buf_str(&line), "\"1\",\"\",\"'-\"\r\n");
	buf_free(&line);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(cells_are_quoted),
		cmocka_unit_test(formulas_are_not),
		cmocka_unit_test(formulas_behind_another_separator_are_not),
		cmocka_unit_test(lines_hold_cells),
	};

	return cmocka_run_group_tests_name("csv", tests, NULL, NULL);
}
