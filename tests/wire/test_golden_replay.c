/* What real clients sent, sent again to a broker that never saw them: every request is answered,
 * with what the schema says and nothing that the broker did not foresee. */
#include "tests/kit/golden.h"
#include "tests/kit/wire_kit.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

/* No error code anywhere in the answer may say that something went wrong inside of the broker. */
static void check_codes(const struct wire_struct *table, const void *message)
{
    for (int i = 0; i < table->field_count + table->tagged_count; i++) {
        const struct wire_field *f = &table->fields[i];
        const char *at = (const char *)message + f->offset;
        if (f->kind == WIRE_INT16 && !(f->flags & WIRE_ARRAY) &&
            !strcmp(wire_field_name(table, f), "error_code")) {
            int16_t code;
            memcpy(&code, at, sizeof code);
            assert_int_not_equal(code, KERR_UNKNOWN_SERVER_ERROR);
        }
        if (f->kind != WIRE_STRUCT) {
            continue;
        }
        const void *pointed = NULL;
        if (f->flags & (WIRE_ARRAY | WIRE_POINTER)) {
            memcpy(&pointed, at, sizeof pointed);
        }
        int32_t count = pointed ? 1 : 0;
        if (f->flags & WIRE_ARRAY) {
            memcpy(&count, (const char *)message + f->count_offset, sizeof count);
        } else if (!(f->flags & WIRE_POINTER)) {
            pointed = at;
            count = 1;
        }
        for (int32_t k = 0; k < count; k++) {
            const struct wire_struct *type = wire_field_type(table, f);
            check_codes(type, (const char *)pointed + (size_t)k * type->size);
        }
    }
}

/* acks of a Produce request: behind the header and the transactional id, which is null. */
static bool wants_no_answer(const struct golden_frame *g)
{
    if (g->key != API_PRODUCE) {
        return false;
    }
    size_t client_id = get_be16(g->bytes.ptr + 12);
    /* flexible: no tagged fields, and a compact null of one byte each; else a null of two */
    return get_be16(g->bytes.ptr + 14 + client_id + 2) == 0;
}

static void replay(const char *client)
{
    struct daemon *d = DAEMON("offsets.topic.num.partitions=3");
    struct wire_client *c = wire_connect(d);
    struct golden g = golden_read(&c->arena, client);
    int answers = 0;
    for (int32_t i = 0; i < g.count; i++) {
        const struct golden_frame *f = &g.frames[i];
        int32_t id = 0;
        wire_send(c, f->bytes.ptr, f->bytes.len);
        if (wants_no_answer(f)) {
            continue;
        }
        const void *a = wire_decode_answer(c, f->key, f->version, wire_receive(c), &id);
        assert_int_equal((uint32_t)id, get_be32(f->bytes.ptr + 8));
        check_codes(wire_api_find(f->key)->response, a);
        answers++;
    }
    print_message("%s: %d requests, %d answers\n", client, g.count, answers);
    assert_null(strstr(daemon_log(d), "level=error"));
    wire_close(c);
    daemon_destroy(d);
}

static void kcat_is_answered(void **state)
{
    (void)state;
    replay("kcat");
}

static void confluent_kafka_is_answered(void **state)
{
    (void)state;
    replay("confluent");
}

static void the_tools_of_apache_kafka_are_answered(void **state)
{
    (void)state;
    replay("java");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(kcat_is_answered),
        cmocka_unit_test(confluent_kafka_is_answered),
        cmocka_unit_test(the_tools_of_apache_kafka_are_answered),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
