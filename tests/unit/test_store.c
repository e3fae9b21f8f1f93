/* What every store driver promises, checked against the posix one in a directory of its own and
 * against the simulated one. */
#include "tests/kit/sim_store.h"
#include "tests/kit/store_dsl.h"
#include "tests/kit/temp_dir.h"

#include <stdlib.h>

struct fixture {
    struct store *store;     /* what is tested */
    struct store posix;      /* when it is that one */
    struct sim_store *sim;   /* when it is that one */
    char dir[TEMP_DIR_SIZE]; /* of posix */
};

static int setup_posix(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    assert_non_null(f);
    temp_dir_make(f->dir);
    assert_int_equal(store_open_posix(f->dir, &f->posix), OK);
    f->store = &f->posix;
    *state = f;
    return 0;
}

static int teardown_posix(void **state)
{
    struct fixture *f = *state;
    store_close_posix(&f->posix);
    temp_dir_remove(f->dir);
    free(f);
    return 0;
}

static int setup_sim(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    assert_non_null(f);
    f->sim = sim_store_create(1);
    f->store = sim_store_store(f->sim);
    *state = f;
    return 0;
}

static int teardown_sim(void **state)
{
    struct fixture *f = *state;
    sim_store_destroy(f->sim);
    free(f);
    return 0;
}

static struct store *store_of(void **state)
{
    return ((struct fixture *)*state)->store;
}

/* ---- opening */

static void opening_makes_a_file_only_when_told_to(void **state)
{
    struct store *s = store_of(state);
    assert_int_equal(open_error(s, "a", STORE_READ), ERR_NOT_FOUND);
    assert_int_equal(open_error(s, "a", STORE_WRITE), ERR_NOT_FOUND);
    assert_list(s, "", "");
    assert_int_equal(open_error(s, "a", STORE_CREATE_NEW), OK);
    assert_int_equal(open_error(s, "a", STORE_CREATE_NEW), ERR_EXISTS);
    assert_int_equal(open_error(s, "a", STORE_CREATE), OK);
    assert_int_equal(open_error(s, "a", STORE_READ), OK);
    assert_int_equal(open_error(s, "missing/a", STORE_CREATE), ERR_NOT_FOUND);
    assert_int_equal(open_error(s, "a/b", STORE_CREATE), ERR_NOT_FOUND);
    assert_list(s, "", "a ");
}

static void a_directory_is_no_file(void **state)
{
    struct store *s = store_of(state);
    assert_int_equal(s->ops->make_dir(s->ctx, "d"), OK);
    assert_int_equal(open_error(s, "d", STORE_READ), ERR_INVALID);
    assert_int_equal(open_error(s, "d", STORE_WRITE), ERR_INVALID);
    assert_int_equal(open_error(s, "d", STORE_CREATE_NEW), ERR_EXISTS);
    assert_int_equal(s->ops->unlink(s->ctx, "d"), ERR_INVALID);
}

static void creating_keeps_what_is_there(void **state)
{
    struct store *s = store_of(state);
    put_file(s, "a", "before");
    close_file(s, open_file(s, "a", STORE_CREATE));
    assert_file(s, "a", "before");
}

/* ---- reading and writing */

static void what_is_written_is_read_at_its_position(void **state)
{
    struct store *s = store_of(state);
    struct store_file *file = open_file(s, "a", STORE_CREATE_NEW);
    assert_int_equal(write_at(s, file, 0, "hello world"), OK);
    assert_int_equal(write_at(s, file, 6, "there"), OK);
    char text[32] = "";
    size_t n = 99;
    assert_int_equal(s->ops->read(s->ctx, file, text, 5, 6, &n), OK);
    assert_int_equal(n, 5);
    assert_memory_equal(text, "there", 5);
    assert_int_equal(s->ops->read(s->ctx, file, text, sizeof text, 3, &n), OK);
    assert_int_equal(n, 8); /* to the end */
    assert_memory_equal(text, "lo there", 8);
    assert_int_equal(s->ops->read(s->ctx, file, text, sizeof text, 11, &n), OK);
    assert_int_equal(n, 0);
    assert_int_equal(s->ops->read(s->ctx, file, text, sizeof text, 4096, &n), OK);
    assert_int_equal(n, 0);
    close_file(s, file);
}

static void a_write_past_the_end_leaves_zeros_between(void **state)
{
    struct store *s = store_of(state);
    struct store_file *file = open_file(s, "a", STORE_CREATE_NEW);
    assert_int_equal(write_at(s, file, 4, "x"), OK);
    int64_t size;
    assert_int_equal(s->ops->size(s->ctx, file, &size), OK);
    assert_int_equal(size, 5);
    char bytes[5];
    size_t n;
    assert_int_equal(s->ops->read(s->ctx, file, bytes, 5, 0, &n), OK);
    assert_memory_equal(bytes, "\0\0\0\0x", 5);
    close_file(s, file);
}

static void truncation_shortens_lengthens_and_forgets(void **state)
{
    struct store *s = store_of(state);
    struct store_file *file = open_file(s, "a", STORE_CREATE_NEW);
    assert_int_equal(write_at(s, file, 0, "abcdef"), OK);
    assert_int_equal(s->ops->truncate(s->ctx, file, 2), OK);
    assert_int_equal(s->ops->truncate(s->ctx, file, 4), OK);
    char bytes[8];
    size_t n;
    assert_int_equal(s->ops->read(s->ctx, file, bytes, 8, 0, &n), OK);
    assert_int_equal(n, 4);
    assert_memory_equal(bytes, "ab\0\0", 4);
    close_file(s, file);
}

/* More parts than one system call takes (IOV_MAX is 1024), some of them empty, first and last too.
 */
static void many_parts_are_written_as_one(void **state)
{
    enum { COUNT = 2600 };
    struct store *s = store_of(state);
    static const char letters[] = "abcdefghijklmnopqrstuvwxyz";
    struct iovec *parts = calloc(COUNT, sizeof *parts);
    char *expected = calloc(COUNT, 4), *found = calloc(COUNT, 4);
    assert_true(parts && expected && found);
    size_t total = 0;
    for (size_t i = 0; i < COUNT; i++) {
        size_t size = i % 4; /* 0, 1, 2, 3 */
        char *part = (char *)(uintptr_t)letters + i % 20;
        parts[i] = (struct iovec){.iov_base = part, .iov_len = i == COUNT - 1 ? 0 : size};
        memcpy(expected + total, part, parts[i].iov_len);
        total += parts[i].iov_len;
    }
    struct store_file *file = open_file(s, "a", STORE_CREATE_NEW);
    assert_int_equal(s->ops->write(s->ctx, file, parts, COUNT, 7), OK);
    int64_t size;
    assert_int_equal(s->ops->size(s->ctx, file, &size), OK);
    assert_int_equal(size, 7 + (int64_t)total);
    size_t n;
    assert_int_equal(s->ops->read(s->ctx, file, found, total, 7, &n), OK);
    assert_int_equal(n, total);
    assert_memory_equal(found, expected, total);
    close_file(s, file);
    free(parts);
    free(expected);
    free(found);
}

static void what_was_just_written_is_read_without_waiting(void **state)
{
    struct store *s = store_of(state);
    struct store_file *file = open_file(s, "a", STORE_CREATE_NEW);
    assert_int_equal(write_at(s, file, 0, "hello"), OK);
    char text[16];
    size_t n = 99;
    assert_int_equal(s->ops->read_cached(s->ctx, file, text, 5, 0, &n), OK);
    assert_int_equal(n, 5);
    assert_memory_equal(text, "hello", 5);
    assert_int_equal(s->ops->read_cached(s->ctx, file, text, sizeof text, 3, &n), OK);
    assert_int_equal(n, 2); /* short only at the end of the file */
    assert_int_equal(s->ops->read_cached(s->ctx, file, text, sizeof text, 5, &n), OK);
    assert_int_equal(n, 0);
    close_file(s, file);
}

/* ---- names */

static void an_unlinked_file_lives_until_it_is_closed(void **state)
{
    struct store *s = store_of(state);
    put_file(s, "a", "still here");
    struct store_file *file = open_file(s, "a", STORE_READ);
    assert_int_equal(s->ops->unlink(s->ctx, "a"), OK);
    assert_int_equal(s->ops->unlink(s->ctx, "a"), ERR_NOT_FOUND);
    assert_list(s, "", "");
    char text[16];
    size_t n;
    assert_int_equal(s->ops->read(s->ctx, file, text, sizeof text, 0, &n), OK);
    assert_int_equal(n, 10);
    close_file(s, file);
}

static void renaming_replaces_files_and_moves_directories(void **state)
{
    struct store *s = store_of(state);
    put_file(s, "a", "new");
    put_file(s, "b", "old");
    assert_int_equal(s->ops->rename(s->ctx, "a", "b"), OK);
    assert_file(s, "b", "new");
    assert_int_equal(s->ops->rename(s->ctx, "a", "c"), ERR_NOT_FOUND);
    assert_int_equal(s->ops->make_dir(s->ctx, "d"), OK);
    assert_int_equal(s->ops->rename(s->ctx, "b", "d/b"), OK);
    assert_int_equal(s->ops->rename(s->ctx, "d", "e"), OK);
    assert_file(s, "e/b", "new");
    assert_list(s, "", "e/ ");
    assert_int_equal(s->ops->rename(s->ctx, "e", "e"), OK);
    assert_int_equal(s->ops->rename(s->ctx, "e/b", "missing/b"), ERR_NOT_FOUND);
}

static void renaming_never_buries_a_full_directory(void **state)
{
    struct store *s = store_of(state);
    assert_int_equal(s->ops->make_dir(s->ctx, "d"), OK);
    assert_int_equal(s->ops->make_dir(s->ctx, "full"), OK);
    put_file(s, "full/a", "x");
    put_file(s, "file", "y");
    assert_int_equal(s->ops->rename(s->ctx, "d", "full"), ERR_EXISTS);
    assert_int_equal(s->ops->rename(s->ctx, "file", "full"), ERR_INVALID);
    assert_int_equal(s->ops->rename(s->ctx, "d", "file"), ERR_NOT_FOUND);
    assert_int_equal(s->ops->rename(s->ctx, "full", "d"), OK);
    assert_file(s, "d/a", "x");
}

static void directories_are_made_once_and_removed_when_empty(void **state)
{
    struct store *s = store_of(state);
    assert_int_equal(s->ops->make_dir(s->ctx, "d"), OK);
    assert_int_equal(s->ops->make_dir(s->ctx, "d"), ERR_EXISTS);
    assert_int_equal(s->ops->make_dir(s->ctx, "x/y"), ERR_NOT_FOUND);
    put_file(s, "d/a", "x");
    assert_int_equal(s->ops->remove_dir(s->ctx, "d"), ERR_EXISTS);
    assert_int_equal(s->ops->unlink(s->ctx, "d/a"), OK);
    assert_int_equal(s->ops->remove_dir(s->ctx, "d"), OK);
    assert_int_equal(s->ops->remove_dir(s->ctx, "d"), ERR_NOT_FOUND);
    put_file(s, "file", "x");
    assert_int_equal(s->ops->remove_dir(s->ctx, "file"), ERR_NOT_FOUND);
}

static void a_listing_is_in_the_order_of_names(void **state)
{
    struct store *s = store_of(state);
    static const char *const names[] = {"b", "a-10", "a-1", "_x", "00000000000000000007.log", "Z"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        put_file(s, names[i], "");
    }
    assert_int_equal(s->ops->make_dir(s->ctx, "a"), OK);
    assert_list(s, "", "00000000000000000007.log Z _x a/ a-1 a-10 b ");
    assert_list(s, "a", "");
    struct buf none = {0};
    assert_int_equal(s->ops->list(s->ctx, "missing", append_name, &none), ERR_NOT_FOUND);
    assert_int_equal(s->ops->list(s->ctx, "b", append_name, &none), ERR_NOT_FOUND);
    assert_int_equal(none.len, 0);
}

struct unlinker {
    struct store *store;
    int count; /* of files unlinked */
};

static void unlink_listed(void *arg, const struct store_entry *entry)
{
    struct unlinker *u = arg;
    char path[64];
    snprintf(path, sizeof path, "%.*s", STR_ARG(entry->name));
    u->count += u->store->ops->unlink(u->store->ctx, path) == OK;
}

static void a_listing_may_change_the_directory_meanwhile(void **state)
{
    struct store *s = store_of(state);
    for (int i = 0; i < 50; i++) {
        char path[16];
        snprintf(path, sizeof path, "f%02d", i);
        put_file(s, path, "x");
    }
    struct unlinker u = {.store = s};
    assert_int_equal(s->ops->list(s->ctx, "", unlink_listed, &u), OK);
    assert_int_equal(u.count, 50);
    assert_list(s, "", "");
}

static void syncing_takes_files_and_directories(void **state)
{
    struct store *s = store_of(state);
    assert_int_equal(s->ops->make_dir(s->ctx, "d"), OK);
    struct store_file *file = open_file(s, "d/a", STORE_CREATE_NEW);
    assert_int_equal(s->ops->sync(s->ctx, file), OK); /* nothing to do */
    assert_int_equal(write_at(s, file, 0, "x"), OK);
    assert_int_equal(s->ops->sync(s->ctx, file), OK);
    close_file(s, file);
    assert_int_equal(s->ops->sync_dir(s->ctx, "d"), OK);
    assert_int_equal(s->ops->sync_dir(s->ctx, ""), OK);
    assert_int_equal(s->ops->sync_dir(s->ctx, "missing"), ERR_NOT_FOUND);
    assert_file(s, "d/a", "x");
}

static void a_lock_is_given_once(void **state)
{
    struct store *s = store_of(state);
    assert_int_equal(s->ops->lock(s->ctx, ".lock"), OK);
    assert_int_equal(s->ops->lock(s->ctx, ".lock"), ERR_BUSY);
    assert_int_equal(s->ops->lock(s->ctx, "missing/.lock"), ERR_NOT_FOUND);
    assert_int_equal(s->ops->lock(s->ctx, ".other"), OK);
    assert_list(s, "", ".lock .other ");
}

static void free_space_is_no_more_than_all_of_it(void **state)
{
    struct store *s = store_of(state);
    int64_t free_bytes = -1, total_bytes = -1;
    assert_int_equal(s->ops->space(s->ctx, &free_bytes, &total_bytes), OK);
    assert_true(free_bytes >= 0);
    assert_true(total_bytes > 0);
    assert_true(free_bytes <= total_bytes);
}

/* ---- whole files */

static void a_replaced_file_is_new_whole_and_alone(void **state)
{
    struct store *s = store_of(state);
    assert_int_equal(s->ops->make_dir(s->ctx, "d"), OK);
    assert_int_equal(store_replace_file(s, "d/a", "a long first text", 17), OK);
    assert_file(s, "d/a", "a long first text");
    put_file(s, "d/a.tmp", "what an attempt that was cut off has left, and that is longer");
    assert_int_equal(store_replace_file(s, "d/a", "second", 6), OK);
    assert_file(s, "d/a", "second");
    assert_int_equal(store_replace_file(s, "top", "", 0), OK);
    assert_file(s, "top", "");
    assert_list(s, "d", "a ");
    assert_int_equal(store_replace_file(s, "missing/a", "x", 1), ERR_NOT_FOUND);
}

static void reading_a_whole_file_stops_at_its_limit(void **state)
{
    struct store *s = store_of(state);
    put_file(s, "a", "12345");
    struct buf b = {0};
    assert_int_equal(store_read_file(s, "a", 4, &b), ERR_LIMIT);
    assert_int_equal(b.len, 0);
    assert_int_equal(store_read_file(s, "missing", 4, &b), ERR_NOT_FOUND);
    buf_add(&b, "0", 1);
    assert_int_equal(store_read_file(s, "a", 5, &b), OK); /* is added */
    assert_string_equal(buf_text(&b), "012345");
    buf_finish(&b);
}

#define BOTH(f)                                                                                    \
    {"posix: " #f, f, setup_posix, teardown_posix, NULL},                                          \
    {                                                                                              \
        "sim: " #f, f, setup_sim, teardown_sim, NULL                                               \
    }

int main(void)
{
    const struct CMUnitTest tests[] = {
        BOTH(opening_makes_a_file_only_when_told_to),
        BOTH(a_directory_is_no_file),
        BOTH(creating_keeps_what_is_there),
        BOTH(what_is_written_is_read_at_its_position),
        BOTH(a_write_past_the_end_leaves_zeros_between),
        BOTH(truncation_shortens_lengthens_and_forgets),
        BOTH(many_parts_are_written_as_one),
        BOTH(what_was_just_written_is_read_without_waiting),
        BOTH(an_unlinked_file_lives_until_it_is_closed),
        BOTH(renaming_replaces_files_and_moves_directories),
        BOTH(renaming_never_buries_a_full_directory),
        BOTH(directories_are_made_once_and_removed_when_empty),
        BOTH(a_listing_is_in_the_order_of_names),
        BOTH(a_listing_may_change_the_directory_meanwhile),
        BOTH(syncing_takes_files_and_directories),
        BOTH(a_lock_is_given_once),
        BOTH(free_space_is_no_more_than_all_of_it),
        BOTH(a_replaced_file_is_new_whole_and_alone),
        BOTH(reading_a_whole_file_stops_at_its_limit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
