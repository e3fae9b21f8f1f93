/* spooled: publishes measurements, also while the broker is away.
 *
 * Events are appended to a file (a spool), and are on the disk when that returns; a thread sends
 * them in their order, each stored once, whenever the broker is there. No database is needed, and
 * the program may be killed at any time.
 *
 *     spooled measurements.spool 127.0.0.1:9092      a line each: "kitchen 21.5"; says "kept 1"
 *     rivulet spool show measurements.spool          what waits
 *
 * cc spooled.c -o spooled $(pkg-config --cflags --libs rivulet-spool rivulet) -pthread
 */
#include <pthread.h>
#include <rivulet_spool.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>

static volatile sig_atomic_t stop;

static void on_signal(int number)
{
    stop = number;
}

struct sender {
    struct rv_spool *spool;
    struct rv_client *client; /* the thread's alone */
    atomic_bool leaving;
};

/* A broker that is away for long is the operator's business: say so now and then, and go on. */
static void *send_all(void *ctx)
{
    struct sender *s = ctx;
    struct rv_error error;
    while (!s->leaving) {
        if (rv_spool_wait(s->spool, 200, &error) ||
            (rv_spool_send(s->spool, s->client, 5000, &error) && !(error.flags & RV_RETRIABLE))) {
            fprintf(stderr, "not sending any more: %s\n", error.text); /* the disk, not the net */
            return NULL;
        }
    }
    return NULL;
}

static bool keep(struct rv_spool *spool, const char *place, const char *value)
{
    const struct rv_message event = {
        .topic = "measurements", .key = RV_STR(place), .value = RV_STR(value)};
    struct rv_error error;
    uint64_t number;
    if (rv_spool_append(spool, &event, &number, &error)) {
        fprintf(stderr, "not kept: %s\n", error.text); /* full is an answer, too: slow down */
        return false;
    }
    printf("kept %llu\n", (unsigned long long)number);
    fflush(stdout);
    return true;
}

int main(int argc, char **argv)
{
    struct sender s = {0};
    struct rv_error error;
    pthread_t thread;
    char line[500], place[200], value[200];
    if (argc != 3) {
        fprintf(stderr, "spooled DIRECTORY BROKERS\n");
        return 2;
    }
    sigaction(SIGINT, &(struct sigaction){.sa_handler = on_signal}, NULL); /* ends fgets, too */
    sigaction(SIGTERM, &(struct sigaction){.sa_handler = on_signal}, NULL);
    if (rv_client_open(RV_OPTIONS({"bootstrap.servers", argv[2]}), &s.client, &error) ||
        rv_spool_open(RV_OPTIONS({"spool.dir", argv[1]}), &s.spool, &error)) {
        fprintf(stderr, "%s\n", error.text);
        rv_client_close(s.client);
        return 1;
    }
    bool good = pthread_create(&thread, NULL, send_all, &s) == 0;
    if (good) {
        while (good && !stop && fgets(line, sizeof line, stdin)) {
            good = sscanf(line, "%199s %199s", place, value) != 2 || keep(s.spool, place, value);
        }
        s.leaving = true; /* what is not sent by now waits for the next start */
        pthread_join(thread, NULL);
    }
    if (rv_spool_close(s.spool, &error)) {
        fprintf(stderr, "%s\n", error.text);
        good = false;
    }
    rv_client_close(s.client);
    return !good;
}
