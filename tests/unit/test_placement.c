/* Keys go where Java's producer puts them: tests/data/placement.tsv is what it says of 200 random
 * ones (tests/peers/java/peers/Placement.java writes it; tests/peers looks at 10,000). */
#include "client/rivulet.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { KEYS = 200, KEY_MAX = 200, LINE_SIZE = 2048 };

static const int32_t counts[] = {1, 2, 3, 7, 12, 64, 100, 1000};

static unsigned char byte_of(const char *digits)
{
    const char two[3] = {digits[0], digits[1], 0};
    char *end;
    unsigned char byte = (unsigned char)strtoul(two, &end, 16);
    assert_true(end == two + 2);
    return byte;
}

static void random_keys_have_the_partitions_that_java_gives_them(void **state)
{
    (void)state;
    char line[LINE_SIZE];
    unsigned char key[KEY_MAX];
    int keys = 0, high = 0;
    FILE *f = fopen("tests/data/placement.tsv", "r");
    assert_non_null(f);
    for (; fgets(line, sizeof line, f); keys++) {
        size_t digits = strcspn(line, "\t");
        assert_true(digits % 2 == 0 && digits / 2 <= KEY_MAX);
        for (size_t i = 0; i < digits / 2; i++) {
            key[i] = byte_of(line + 2 * i);
            high += key[i] >= 0x80;
        }
        char *at = line + digits;
        for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
            assert_int_equal(*at, '\t');
            long want = strtol(at + 1, &at, 10);
            assert_int_equal(rv_partition_of_key(key, digits / 2, counts[i]), want);
        }
        assert_int_equal(*at, '\n');
    }
    assert_int_equal(keys, KEYS);
    assert_true(high > KEYS); /* bytes that are negative in Java are among them */
    fclose(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_keys_have_the_partitions_that_java_gives_them),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
