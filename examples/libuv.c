/* A rivulet client in a libuv loop: reads a topic from its start and prints it, until Ctrl-C.
 *
 *     cc libuv.c $(pkg-config --cflags --libs rivulet libuv) -o libuv && ./libuv 127.0.0.1:9092
 * users
 *
 * The client's descriptor is watched with a uv_poll_t, its time with a uv_timer_t; each of them
 * ends in `turn`, which takes what is there and asks when the next turn is due.
 */
#include <rivulet.h>

#include <signal.h>
#include <stdio.h>
#include <uv.h>

struct reader {
    struct rv_client *client;
    struct rv_consumer *consumer;
    uv_loop_t *loop;
    uv_poll_t readable;
    uv_timer_t timer;
    uv_signal_t interrupt;
    struct rv_error error;
    int code;
};

static void close_handle(uv_handle_t *handle, void *ctx)
{
    (void)ctx;
    if (!uv_is_closing(handle)) {
        uv_close(handle, NULL);
    }
}

static void on_time(uv_timer_t *timer);

static void turn(struct reader *r)
{
    const struct rv_record *records;
    size_t count;
    do {
        r->code = rv_poll(r->consumer, 0, &records, &count, &r->error);
        for (size_t i = 0; r->code == RV_OK && i < count; i++) {
            printf("%d %lld %.*s\n", (int)records[i].partition, (long long)records[i].offset,
                   (int)records[i].value.size, (const char *)records[i].value.ptr);
        }
    } while (r->code == RV_OK && count > 0);
    fflush(stdout);
    int due_ms = rv_timeout(r->client);
    if (r->code != RV_OK) {
        uv_walk(r->loop, close_handle, NULL); /* ends the loop */
    } else if (due_ms < 0) {
        uv_timer_stop(&r->timer);
    } else {
        uv_timer_start(&r->timer, on_time, (uint64_t)(due_ms > 0 ? due_ms : 1), 0);
    }
}

static void on_time(uv_timer_t *timer)
{
    turn(timer->data);
}

static void on_readable(uv_poll_t *poll, int status, int events)
{
    (void)status, (void)events; /* what is wrong with the sockets is the client's business */
    turn(poll->data);
}

static void on_interrupt(uv_signal_t *handle, int number)
{
    (void)number;
    uv_walk(handle->loop, close_handle, NULL);
}

static int run(struct reader *r)
{
    r->loop = uv_default_loop();
    int e = uv_poll_init(r->loop, &r->readable, rv_fd(r->client));
    e = e ? e : uv_timer_init(r->loop, &r->timer);
    e = e ? e : uv_signal_init(r->loop, &r->interrupt);
    r->readable.data = r->timer.data = r;
    e = e ? e : uv_poll_start(&r->readable, UV_READABLE, on_readable);
    e = e ? e : uv_signal_start(&r->interrupt, on_interrupt, SIGINT);
    if (e) {
        fprintf(stderr, "libuv: %s\n", uv_strerror(e));
        return 1;
    }
    turn(r);
    uv_run(r->loop, UV_RUN_DEFAULT);
    return uv_loop_close(r->loop) != 0;
}

int main(int argc, char **argv)
{
    if (argc != 3) {
        fprintf(stderr, "usage: libuv BROKER TOPIC\n");
        return 2;
    }
    struct reader r = {0};
    const struct rv_partition first = {.topic = argv[2], .partition = 0, .offset = RV_START};
    r.code = rv_client_open(RV_OPTIONS({"bootstrap.servers", argv[1]}), &r.client, &r.error);
    if (r.code == RV_OK) {
        r.code = rv_consumer_open(r.client, NULL, &r.consumer, &r.error);
    }
    if (r.code == RV_OK) {
        r.code = rv_assign(r.consumer, &first, 1, &r.error);
    }
    int failed = r.code == RV_OK && run(&r);
    if (r.code != RV_OK) {
        fprintf(stderr, "%s\n", r.error.text);
    }
    rv_consumer_close(r.consumer, 1000, NULL);
    rv_client_close(r.client);
    return failed || r.code != RV_OK;
}
