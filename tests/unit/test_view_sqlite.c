/* Views against a broker, kept in memory with a file and in SQLite: both do the same. The broker is
 * in a process of its own, so that processes that open views can be forked and killed. */
#include "base/clock.h"
#include "client/view_sqlite/rivulet_view_sqlite.h"
#include "tests/kit/child_home.h"
#include "tests/kit/temp_dir.h"
#include "tests/kit/view_kit.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

enum kind { IN_FILE, IN_SQLITE, KINDS };

/* ---- every step of a process that keeps a view: a statement, or a call that touches its file. At
 * the one with this number it is killed. */

static int steps_left = -1; /* -1: never */
static bool steps_count;    /* calls are counted */

static void step(void)
{
    if (steps_count && steps_left >= 0 && steps_left-- == 0) {
        raise(SIGKILL);
    }
}

int fsync(int fd)
{
    step();
    return (int)syscall(SYS_fsync, fd);
}

int rename(const char *from, const char *to)
{
    step();
    return (int)syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, 0);
}

ssize_t write(int fd, const void *p, size_t size)
{
    step();
    if (steps_count && size > 7) { /* torn, then as it should be */
        ssize_t n = syscall(SYS_write, fd, p, size / 2);
        step();
        return n;
    }
    return syscall(SYS_write, fd, p, size);
}

static int on_statement(unsigned what, void *ctx, void *p, void *x)
{
    (void)what;
    (void)ctx;
    (void)p;
    (void)x;
    step();
    return 0;
}

/* ---- a view, opened again and again in the same place ---- */

struct desk {
    enum kind kind;
    char dir[TEMP_DIR_SIZE];
    char path[TEMP_DIR_SIZE + 16];
    struct feeding feeding;
    struct rv_client *client;
    sqlite3 *db; /* while the view is open */
    struct rv_view *view;
    int rebuilds, changes, removals; /* calls back */
};

static void on_change(void *ctx, const struct rv_view_entry *old, const struct rv_view_entry *now)
{
    struct desk *d = ctx;
    assert_true(old || now);
    d->changes++;
    d->removals += now == NULL;
}

static void on_rebuild(void *ctx, const char *why)
{
    struct desk *d = ctx;
    assert_true(why[0]);
    d->rebuilds++;
}

static void desk_view_by(struct desk *d, const char *check_ms, const char *fetch_bytes)
{
    struct rv_error e;
    struct rv_view_storage storage;
    const struct rv_option *options = RV_OPTIONS(
        {"view.check.ms", check_ms}, {"fetch.max.wait.ms", "20"}, {"max.poll.records", "7"},
        {"max.partition.fetch.bytes", fetch_bytes},
        {d->kind == IN_FILE ? "view.file" : "fetch.min.bytes", d->kind == IN_FILE ? d->path : "1"});
    if (d->kind == IN_SQLITE) {
        assert_int_equal(sqlite3_open(d->path, &d->db), SQLITE_OK);
        sqlite3_trace_v2(d->db, SQLITE_TRACE_STMT, on_statement, NULL);
        assert_int_equal(rv_view_sqlite_open(d->db, "v", &storage, &e), RV_OK);
    }
    d->view =
        view_open(d->client, d->feeding.topic, options, d->kind == IN_SQLITE ? &storage : NULL);
    rv_view_on_change(d->view, on_change, d);
    rv_view_on_rebuild(d->view, on_rebuild, d);
}

static void desk_view(struct desk *d, const char *check_ms)
{
    desk_view_by(d, check_ms, "1048576");
}

static void desk_view_close(struct desk *d)
{
    rv_view_close(d->view);
    assert_int_equal(sqlite3_close(d->db), SQLITE_OK);
    d->view = NULL;
    d->db = NULL;
}

static void desk_save(struct desk *d)
{
    struct rv_error e;
    if (d->kind == IN_FILE && rv_view_save(d->view, &e) != RV_OK) {
        fail_msg("%s", e.text);
    }
}

static void desk_open(struct desk *d, void **state, enum kind kind, int32_t partitions,
                      const struct rv_option *configs)
{
    const struct child_home *broker = *state;
    memset(d, 0, sizeof *d);
    d->kind = kind;
    temp_dir_make(d->dir);
    snprintf(d->path, sizeof d->path, "%s/view", d->dir);
    feeding_open(&d->feeding, broker->address, "views", partitions, configs);
    d->client = view_client(broker->address);
}

static void desk_close(struct desk *d)
{
    desk_view_close(d);
    rv_client_close(d->client);
    feeding_close(&d->feeding);
    temp_dir_remove(d->dir);
}

static struct rv_view_stats stats(struct desk *d)
{
    struct rv_view_stats s;
    struct rv_error e;
    assert_int_equal(rv_view_stats(d->view, &s, &e), RV_OK);
    return s;
}

#define BOTH(name)                                                                                 \
    static void name##_in_a_file(void **state)                                                     \
    {                                                                                              \
        name(state, IN_FILE);                                                                      \
    }                                                                                              \
    static void name##_in_sqlite(void **state)                                                     \
    {                                                                                              \
        name(state, IN_SQLITE);                                                                    \
    }

static struct desk desk; /* large */

/* ---- what it holds ---- */

static void it_is_complete_and_follows(void **state, enum kind kind)
{
    struct desk *d = &desk;
    uint64_t seed = 1;
    desk_open(d, state, kind, 3, NULL);
    feed_random(&d->feeding, &seed, 300);
    desk_view(d, "60000");
    assert_false(rv_view_is_complete(d->view));
    view_complete(d->view);
    assert_view(&d->feeding, d->view, NULL);
    assert_int_equal(stats(d).records, 300);
    assert_true(stats(d).without_key > 0);
    assert_int_equal(stats(d).behind, 0);
    for (int round = 0; round < 5; round++) {
        feed_random(&d->feeding, &seed, 60);
        view_follow(&d->feeding, d->view);
        assert_view(&d->feeding, d->view, NULL);
    }
    assert_true(d->removals > 0);
    assert_int_equal(d->rebuilds, 0);
    desk_close(d);
}
BOTH(it_is_complete_and_follows)

static void an_empty_topic_is_complete(void **state, enum kind kind)
{
    struct desk *d = &desk;
    desk_open(d, state, kind, 2, NULL);
    desk_view(d, "60000");
    view_complete(d->view);
    assert_view(&d->feeding, d->view, NULL);
    desk_close(d);
}
BOTH(an_empty_topic_is_complete)

static void a_restart_goes_on_where_it_was(void **state, enum kind kind)
{
    struct desk *d = &desk;
    uint64_t seed = 2;
    desk_open(d, state, kind, 3, NULL);
    feed_random(&d->feeding, &seed, 200);
    for (int round = 0; round < 4; round++) {
        int before = d->feeding.count;
        desk_view(d, "60000");
        view_complete(d->view);
        assert_view(&d->feeding, d->view, NULL);
        desk_save(d);
        assert_int_equal(stats(d).records, round == 0 ? 200 : 50);
        desk_view_close(d);
        feed_random(&d->feeding, &seed, 50);
        assert_int_equal(d->feeding.count, before + 50);
    }
    desk_view(d, "60000");
    view_complete(d->view);
    assert_int_equal(d->rebuilds, 0);
    desk_close(d);
}
BOTH(a_restart_goes_on_where_it_was)

/* What changed is told: once for each, with old and new. */
static void changes_are_told(void **state, enum kind kind)
{
    struct desk *d = &desk;
    desk_open(d, state, kind, 1, NULL);
    feed_key(&d->feeding, 1, "a");
    feed_key(&d->feeding, 2, NULL); /* of a key that is not there */
    feed_key(&d->feeding, 1, "b");
    feed_key(&d->feeding, 1, NULL);
    feed_key(&d->feeding, -1, "x");
    feed_flush(&d->feeding);
    desk_view(d, "60000");
    view_complete(d->view);
    assert_int_equal(d->changes, 3);
    assert_int_equal(d->removals, 1);
    feed_key(&d->feeding, 1, NULL);
    feed_key(&d->feeding, 3, "c");
    feed_flush(&d->feeding);
    view_follow(&d->feeding, d->view);
    assert_int_equal(d->changes, 4);
    assert_int_equal(stats(d).without_key, 1);
    desk_close(d);
}
BOTH(changes_are_told)

/* ---- beginning anew ---- */

static void rebuilt(struct desk *d, const char *why)
{
    int64_t until = clock_mono_ms(&clock_real) + FEED_MS;
    struct rv_error e;
    while (stats(d).rebuilds == 0) {
        rv_view_poll(d->view, 50, &e); /* while the topic is away it is an error */
        assert_true(clock_mono_ms(&clock_real) < until);
    }
    if (!strstr(rv_view_why(d->view), why)) {
        fail_msg("why: %s", rv_view_why(d->view));
    }
    view_complete(d->view);
    assert_view(&d->feeding, d->view, NULL);
    assert_in_range(stats(d).rebuilds, 1, 2); /* twice where the client still knew the old one */
}

static void a_topic_made_anew_is_read_anew(void **state, enum kind kind)
{
    struct desk *d = &desk;
    uint64_t seed = 3;
    desk_open(d, state, kind, 3, NULL);
    feed_random(&d->feeding, &seed, 200);
    desk_view(d, "100");
    view_complete(d->view);
    d->removals = 0;
    feeding_renew(&d->feeding, 2);
    feed_random(&d->feeding, &seed, 40);
    rebuilt(d, "");
    assert_int_equal(d->rebuilds, stats(d).rebuilds);
    assert_true(d->removals > 0); /* those that did not come again */
    desk_close(d);
}
BOTH(a_topic_made_anew_is_read_anew)

/* It was made anew while the view was away, and has as many records as it had. */
static void a_topic_made_anew_meanwhile_is_read_anew(void **state, enum kind kind)
{
    struct desk *d = &desk;
    uint64_t seed = 4;
    desk_open(d, state, kind, 3, NULL);
    feed_random(&d->feeding, &seed, 200);
    desk_view(d, "60000");
    view_complete(d->view);
    desk_save(d);
    desk_view_close(d);
    feeding_renew(&d->feeding, 3);
    feed_random(&d->feeding, &seed, 300);
    rv_client_close(d->client); /* another process, which knows nothing of the old one */
    d->client = view_client(((struct child_home *)*state)->address);
    desk_view(d, "60000");
    rebuilt(d, "made again");
    assert_int_equal(stats(d).records, 300); /* it did not read on in the new one first */
    desk_close(d);
}
BOTH(a_topic_made_anew_meanwhile_is_read_anew)

/* Retention has passed the position: what was removed meanwhile is nowhere to be read. */
static void a_position_that_is_gone_makes_it_begin_anew(void **state, enum kind kind)
{
    struct desk *d = &desk;
    desk_open(d, state, kind, 1, NULL);
    feed_key(&d->feeding, 1, "kept");
    feed_key(&d->feeding, 2, "goes");
    feed_flush(&d->feeding);
    desk_view(d, "60000");
    view_complete(d->view);
    desk_save(d);
    desk_view_close(d);
    feed_key(&d->feeding, 2, NULL);
    feed_key(&d->feeding, 1, "again");
    feed_flush(&d->feeding);
    feed_cut(&d->feeding, 0, 3);
    desk_view(d, "60000");
    struct rv_view_entry entry;
    struct rv_error e;
    assert_int_equal(rv_view_get(d->view, RV_STR("key-2"), &entry, &e), RV_OK); /* as it was */
    rebuilt(d, "starts behind");
    desk_close(d);
}
BOTH(a_position_that_is_gone_makes_it_begin_anew)

/* The same while it is open. Its one fetch on the way may bring the first of the new records, and no
 * more (max.partition.fetch.bytes); the next one asks for what is gone. */
static void a_jump_makes_it_begin_anew(void **state, enum kind kind)
{
    struct desk *d = &desk;
    struct rv_error e;
    struct rv_view_entry entry;
    desk_open(d, state, kind, 1, NULL);
    feed_key(&d->feeding, 1, "goes");
    feed_key(&d->feeding, 2, "goes");
    feed_flush(&d->feeding);
    desk_view_by(d, "60000", "1"); /* a batch a fetch */
    view_complete(d->view);
    for (int i = 0; i < 3; i++) { /* a batch each */
        feed_key(&d->feeding, i == 1 ? 1 : 3, i == 1 ? NULL : "stays");
        feed_flush(&d->feeding);
    }
    feed_cut(&d->feeding, 0, 4);
    int64_t until = clock_mono_ms(&clock_real) + FEED_MS;
    while (stats(d).rebuilds == 0) {
        assert_int_equal(rv_view_poll(d->view, 50, &e), RV_OK);
        assert_true(clock_mono_ms(&clock_real) < until);
    }
    view_complete(d->view);
    assert_int_equal(rv_view_get(d->view, RV_STR("key-3"), &entry, &e), RV_OK);
    assert_int_equal(entry.offset, 4);
    assert_int_equal(stats(d).count, 1);
    assert_int_equal(d->rebuilds, 1);
    desk_close(d);
}
BOTH(a_jump_makes_it_begin_anew)

/* Whether the broker has compacted topics. */
static bool compaction_is_there(const struct child_home *broker)
{
    struct rv_error e;
    struct rv_client *client = view_client(broker->address);
    int code = rv_topic_create(client, "compacts", 1, RV_OPTIONS({"cleanup.policy", "compact"}),
                               FEED_MS, &e);
    if (code == RV_OK) {
        assert_int_equal(rv_topic_delete(client, "compacts", FEED_MS, &e), RV_OK);
    } else {
        assert_int_equal(code, 40 /* INVALID_CONFIG */);
    }
    rv_client_close(client);
    return code == RV_OK;
}

/* Away for longer than removals are remembered. */
static void a_compacted_topic_is_not_trusted_for_ever(void **state, enum kind kind)
{
    struct desk *d = &desk;
    if (!compaction_is_there(*state)) { /* then there is no topic that forgets removals */
        return;
    }
    desk_open(d, state, kind, 1,
              RV_OPTIONS({"cleanup.policy", "compact"}, {"delete.retention.ms", "0"}));
    feed_key(&d->feeding, 1, "a");
    feed_flush(&d->feeding);
    desk_view(d, "60000");
    view_complete(d->view);
    desk_save(d);
    desk_view_close(d);
    int64_t now = clock_wall_ms(&clock_real);
    while (clock_wall_ms(&clock_real) <= now) {
    }
    desk_view(d, "60000");
    rebuilt(d, "delete.retention.ms");
    desk_close(d);
}
BOTH(a_compacted_topic_is_not_trusted_for_ever)

/* ---- partitions ---- */

static void more_partitions_are_noticed(void **state, enum kind kind)
{
    struct desk *d = &desk;
    struct rv_error e;
    uint64_t seed = 6;
    desk_open(d, state, kind, 2, NULL);
    feed_random(&d->feeding, &seed, 100);
    desk_view(d, "50");
    view_complete(d->view);
    assert_int_equal(rv_topic_grow(d->feeding.client, "views", 4, FEED_MS, &e), RV_OK);
    int64_t until = clock_mono_ms(&clock_real) + FEED_MS;
    while (stats(d).partition_count < 4) {
        assert_int_equal(rv_view_poll(d->view, 50, &e), RV_OK);
        assert_true(clock_mono_ms(&clock_real) < until);
    }
    feed_at(&d->feeding, 3, 63, "in a new one", 0);
    feed_flush(&d->feeding);
    view_follow(&d->feeding, d->view);
    assert_view(&d->feeding, d->view, NULL);
    desk_save(d);
    desk_view_close(d);
    desk_view(d, "60000");
    view_complete(d->view);
    assert_view(&d->feeding, d->view, NULL);
    assert_int_equal(stats(d).rebuilds, 0);
    desk_close(d);
}
BOTH(more_partitions_are_noticed)

/* A key that has moved: the later time counts, in whichever order the partitions are read. */
static void a_key_that_moved_is_as_it_was_said_last(void **state, enum kind kind)
{
    struct desk *d = &desk;
    desk_open(d, state, kind, 2, NULL);
    int64_t t = clock_wall_ms(&clock_real) - 1000;
    feed_at(&d->feeding, 0, 1, "old", t);
    feed_at(&d->feeding, 1, 1, "new", t + 1);
    feed_at(&d->feeding, 1, 2, "old", t);
    feed_at(&d->feeding, 0, 2, "new", t + 1);
    feed_at(&d->feeding, 1, 3, "old", t);
    feed_at(&d->feeding, 0, 3, NULL, t + 1);
    feed_at(&d->feeding, 0, 4, "old", t);
    feed_at(&d->feeding, 1, 4, NULL, t + 1);
    feed_flush(&d->feeding);
    desk_view(d, "60000");
    view_complete(d->view);
    assert_view(&d->feeding, d->view, NULL);
    desk_close(d);
}
BOTH(a_key_that_moved_is_as_it_was_said_last)

/* ---- kill -9 at every step ---- */

/* The life that is cut short: three rounds of opening, reading up, saving. */
static void keeper_main(struct desk *d, const char *address, int kill_at)
{
    d->client = view_client(address);
    steps_left = kill_at;
    for (int round = 0; round < 2; round++) {
        steps_count = d->kind == IN_SQLITE;
        desk_view(d, "60000");
        struct rv_error e;
        while (!rv_view_is_complete(d->view)) {
            if (rv_view_poll(d->view, 100, &e) != RV_OK) {
                fprintf(stderr, "keeper: %s\n", e.text);
                _exit(1);
            }
            steps_count = true;
            desk_save(d);
            steps_count = d->kind == IN_SQLITE;
        }
        desk_view_close(d);
    }
    _exit(0);
}

/* The positions that are kept are those of what is kept (V1). */
static void assert_kept(struct desk *d)
{
    int64_t positions[FEED_PARTITIONS] = {0};
    if (d->kind == IN_SQLITE) {
        sqlite3 *db;
        sqlite3_stmt *q;
        assert_int_equal(sqlite3_open(d->path, &db), SQLITE_OK);
        if (sqlite3_prepare_v2(db, "SELECT partition, offset FROM rivulet_view_position", -1, &q,
                               NULL) == SQLITE_OK) {
            while (sqlite3_step(q) == SQLITE_ROW) {
                int64_t offset = sqlite3_column_int64(q, 1);
                positions[sqlite3_column_int(q, 0)] = offset < 0 ? 0 : offset;
            }
            sqlite3_finalize(q);
        }
        assert_int_equal(sqlite3_close(db), SQLITE_OK);
        desk_view(d, "60000"); /* nothing is polled */
        assert_view(&d->feeding, d->view, positions);
        desk_view_close(d);
    }
    desk_view(d, "60000");
    assert_string_equal(rv_view_why(d->view), "");
    view_complete(d->view);
    assert_view(&d->feeding, d->view, NULL);
    assert_int_equal(stats(d).rebuilds, 0);
    desk_view_close(d);
}

static void killed_at_any_step_it_is_right(void **state, enum kind kind)
{
    struct desk *d = &desk;
    const struct child_home *broker = *state;
    uint64_t seed = 7;
    desk_open(d, state, kind, 2, NULL);
    feed_random(&d->feeding, &seed, 40);
    int kills = 0;
    for (int n = 0;; n++) {
        pid_t pid = fork();
        assert_true(pid >= 0);
        if (pid == 0) {
            keeper_main(d, broker->address, n);
        }
        int status;
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_kept(d);
        if (WIFEXITED(status)) {
            assert_int_equal(WEXITSTATUS(status), 0);
            break;
        }
        assert_int_equal(WTERMSIG(status), SIGKILL);
        kills++;
        temp_dir_remove(d->dir);
        assert_int_equal(mkdir(d->dir, 0700), 0);
    }
    printf("killed at each of %d steps\n", kills);
    assert_true(kills > 20);
    desk_view(d, "60000");
    desk_close(d);
}
BOTH(killed_at_any_step_it_is_right)

/* ---- trouble ---- */

static void a_full_view_says_so_and_goes_on(void **state)
{
    struct desk *d = &desk;
    struct rv_error e;
    const struct child_home *broker = *state;
    char value[2000];
    memset(value, 'x', sizeof value);
    desk_open(d, state, IN_FILE, 1, NULL);
    for (int i = 0; i < 400; i++) {
        char key[16];
        snprintf(key, sizeof key, "%d", i);
        const struct rv_message m = {
            .topic = "views", .key = RV_STR(key), .value = {value, sizeof value}
        };
        assert_int_equal(rv_send(d->feeding.producer, &m, NULL, NULL, &e), RV_OK);
    }
    feed_flush(&d->feeding);
    struct rv_client *client = view_client(broker->address);
    struct rv_view *v = view_open(client, "views", RV_OPTIONS({"view.max.bytes", "600000"}), NULL);
    int code = RV_OK;
    for (int i = 0; code == RV_OK && i < 1000; i++) {
        code = rv_view_poll(v, 100, &e);
        assert_false(rv_view_is_complete(v));
    }
    assert_int_equal(code, RV_E_FULL);
    assert_non_null(strstr(e.text, "view.max.bytes"));
    assert_int_equal(rv_view_poll(v, 100, &e), RV_E_FULL); /* it does not go past it */
    struct rv_view_stats s;
    assert_int_equal(rv_view_stats(v, &s, &e), RV_OK);
    assert_true(s.bytes <= 600000 && s.count > 200);
    rv_view_close(v);
    rv_client_close(client);
    desk_view(d, "60000");
    desk_close(d);
}

static void a_damaged_file_is_said_and_not_taken(void **state)
{
    struct desk *d = &desk;
    uint64_t seed = 8;
    desk_open(d, state, IN_FILE, 2, NULL);
    feed_random(&d->feeding, &seed, 100);
    desk_view(d, "60000");
    view_complete(d->view);
    desk_save(d);
    desk_view_close(d);
    int fd = open(d->path, O_RDWR);
    assert_int_equal(pwrite(fd, "\xff\xff", 2, 100), 2);
    close(fd);
    desk_view(d, "60000");
    assert_non_null(strstr(rv_view_why(d->view), "damaged"));
    view_complete(d->view);
    assert_view(&d->feeding, d->view, NULL);
    assert_int_equal(stats(d).records, 100);
    desk_close(d);
}

/* A table is never taken over, and a database that says no loses nothing. */
static void sqlite_says_what_is_wrong(void **state)
{
    struct desk *d = &desk;
    struct rv_error e;
    struct rv_view *v;
    struct rv_view_storage storage;
    uint64_t seed = 9;
    desk_open(d, state, IN_SQLITE, 2, NULL);
    feed_random(&d->feeding, &seed, 100);
    desk_view(d, "60000");
    assert_int_equal(rv_view_sqlite_open(d->db, "no such name", &storage, &e), RV_E_ARGUMENT);
    sqlite3_exec(d->db, "BEGIN", NULL, NULL, NULL); /* the service's */
    int code = RV_OK;
    for (int i = 0; i < 100 && code == RV_OK; i++) {
        code = rv_view_poll(d->view, 50, &e);
    }
    assert_int_equal(code, RV_VIEW_E_DATABASE);
    assert_non_null(strstr(e.text, "within a transaction"));
    assert_false(sqlite3_get_autocommit(d->db)); /* it is still the service's */
    sqlite3_exec(d->db, "COMMIT", NULL, NULL, NULL);
    view_complete(d->view);
    assert_view(&d->feeding, d->view, NULL);
    assert_int_equal(rv_view_sqlite_open(d->db, "v", &storage, &e), RV_OK);
    struct feeding *other = calloc(1, sizeof *other);
    feeding_open(other, ((struct child_home *)*state)->address, "others", 1, NULL);
    assert_int_equal(rv_view_open(d->client, "others", NULL, &storage, FEED_MS, &v, &e),
                     RV_E_ARGUMENT);
    sqlite3_exec(d->db, "DELETE FROM rivulet_view", NULL, NULL, NULL);
    assert_int_equal(rv_view_sqlite_open(d->db, "v", &storage, &e), RV_OK);
    assert_int_equal(rv_view_open(d->client, "views", NULL, &storage, FEED_MS, &v, &e),
                     RV_E_ARGUMENT);
    feeding_close(other);
    free(other);
    desk_close(d);
}

/* A commit fails because somebody reads: the position does not go on without the records, whatever
 * else is saved before they are applied again. */
static void a_commit_that_failed_leaves_the_position(void **state)
{
    struct desk *d = &desk;
    struct rv_error e;
    sqlite3 *other;
    sqlite3_stmt *reader;
    uint64_t seed = 10;
    desk_open(d, state, IN_SQLITE, 2, NULL);
    feed_random(&d->feeding, &seed, 30);
    desk_view(d, "1");
    view_complete(d->view);
    view_follow(&d->feeding, d->view);
    assert_int_equal(sqlite3_open(d->path, &other), SQLITE_OK);
    assert_int_equal(sqlite3_prepare_v2(other, "SELECT key FROM v", -1, &reader, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_step(reader), SQLITE_ROW);
    feed_random(&d->feeding, &seed, 5); /* one batch */
    int64_t until = clock_mono_ms(&clock_real) + FEED_MS;
    for (int refused = 0; refused < 5;) {
        int code = rv_view_poll(d->view, 50, &e);
        assert_true(code == RV_OK || (code == RV_VIEW_E_DATABASE && (e.flags & RV_RETRIABLE)));
        refused += code != RV_OK;
        assert_true(clock_mono_ms(&clock_real) < until);
    }
    sqlite3_finalize(reader);
    assert_int_equal(sqlite3_close(other), SQLITE_OK);
    assert_int_equal(rv_view_poll(d->view, 50, &e), RV_OK);
    desk_view_close(d); /* as if it had been killed here */
    desk_view(d, "60000");
    view_complete(d->view);
    assert_view(&d->feeding, d->view, NULL);
    desk_close(d);
}

/* ---- as of a time, and one key ---- */

static void as_of_a_time_later_records_are_not_seen(void **state)
{
    struct desk *d = &desk;
    struct rv_error e;
    struct rv_view_entry entry;
    int64_t t = clock_wall_ms(&clock_real) - 100000;
    char at[24];
    desk_open(d, state, IN_FILE, 1, NULL);
    feed_at(&d->feeding, 0, 1, "early", t);
    feed_at(&d->feeding, 0, 2, "early", t + 1);
    feed_at(&d->feeding, 0, 1, "late", t + 2);
    feed_at(&d->feeding, 0, 2, NULL, t + 3);
    feed_flush(&d->feeding);
    snprintf(at, sizeof at, "%lld", (long long)t + 1);
    struct rv_view *v = view_open(d->client, "views", RV_OPTIONS({"view.at.ms", at}), NULL);
    view_complete(v);
    assert_int_equal(rv_view_get(v, RV_STR("key-1"), &entry, &e), RV_OK);
    assert_memory_equal(entry.value.ptr, "early", 5);
    assert_int_equal(rv_view_get(v, RV_STR("key-2"), &entry, &e), RV_OK);
    rv_view_close(v);
    v = view_open(d->client, "views", RV_OPTIONS({"view.key", "key-1"}), NULL);
    view_complete(v);
    assert_int_equal(rv_view_get(v, RV_STR("key-1"), &entry, &e), RV_OK);
    assert_memory_equal(entry.value.ptr, "late", 4);
    struct rv_view_stats s;
    assert_int_equal(rv_view_stats(v, &s, &e), RV_OK);
    assert_int_equal(s.count, 1);
    rv_view_close(v);
    desk_view(d, "60000");
    desk_close(d);
}

static void options_that_make_no_sense_are_refused(void **state)
{
    struct desk *d = &desk;
    struct rv_error e;
    struct rv_view *v;
    desk_open(d, state, IN_FILE, 1, NULL);
    const struct rv_option *bad[] = {
        RV_OPTIONS({"view.max.bytes", "-1"}), RV_OPTIONS({"view.check.ms", "0"}),
        RV_OPTIONS({"view.at.ms", "x"}), RV_OPTIONS({"view.what", "1"}),
        RV_OPTIONS({"view.key", "a"}, {"view.file", d->path})};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_int_equal(rv_view_open(d->client, "views", bad[i], NULL, 1000, &v, &e), RV_E_OPTION);
    }
    assert_int_equal(rv_view_open(d->client, "nowhere", NULL, NULL, 5000, &v, &e),
                     3 /* UNKNOWN_TOPIC_OR_PARTITION */);
    desk_view(d, "60000");
    desk_close(d);
}

#define TWICE(name) cmocka_unit_test(name##_in_a_file), cmocka_unit_test(name##_in_sqlite)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TWICE(it_is_complete_and_follows),
        TWICE(an_empty_topic_is_complete),
        TWICE(a_restart_goes_on_where_it_was),
        TWICE(changes_are_told),
        TWICE(a_topic_made_anew_is_read_anew),
        TWICE(a_topic_made_anew_meanwhile_is_read_anew),
        TWICE(a_position_that_is_gone_makes_it_begin_anew),
        TWICE(a_jump_makes_it_begin_anew),
        TWICE(a_compacted_topic_is_not_trusted_for_ever),
        TWICE(more_partitions_are_noticed),
        TWICE(a_key_that_moved_is_as_it_was_said_last),
        TWICE(killed_at_any_step_it_is_right),
        cmocka_unit_test(a_full_view_says_so_and_goes_on),
        cmocka_unit_test(a_damaged_file_is_said_and_not_taken),
        cmocka_unit_test(sqlite_says_what_is_wrong),
        cmocka_unit_test(a_commit_that_failed_leaves_the_position),
        cmocka_unit_test(as_of_a_time_later_records_are_not_seen),
        cmocka_unit_test(options_that_make_no_sense_are_refused),
    };
    signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests(tests, child_home_start, child_home_stop);
}
