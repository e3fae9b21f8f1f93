#include "tests/kit/outside.h"

#include "base/check.h"
#include "client/ask.h"
#include "client/rivulet.h"
#include "gen/leave_group.h"
#include "protocol/error.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { WAIT_MS = 60000, LEAVE_GROUP_KEY = 13, FIRST_WITH_MEMBERS = 3 };

const char *outside_address(void)
{
    const char *address = getenv("RV_TEST_BROKERS");
    return address && address[0] ? address : NULL;
}

static uint16_t port_of(const char *address)
{
    const char *colon = strrchr(address, ':');
    int port = colon ? atoi(colon + 1) : 0;
    check(port > 0 && port < 65536);
    return (uint16_t)port;
}

uint16_t outside_port(void)
{
    return port_of(outside_address());
}

/* ---- stopping and starting ---- */

void outside_control(const char *what)
{
    const char *url = getenv("RV_TEST_CONTROL");
    check(url);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in to = {.sin_family = AF_INET,
                             .sin_port = htons(port_of(url)),
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    check(fd >= 0 && connect(fd, (struct sockaddr *)&to, sizeof to) == 0);
    char text[256];
    int size = snprintf(text, sizeof text, "GET /%s HTTP/1.0\r\n\r\n", what);
    check(send(fd, text, (size_t)size, MSG_NOSIGNAL) == size);
    size_t got = 0;
    ssize_t n;
    while (got < sizeof text - 1 && (n = recv(fd, text + got, sizeof text - 1 - got, 0)) > 0) {
        got += (size_t)n;
    }
    text[got] = 0;
    close(fd);
    if (!strstr(text, " 200 ")) {
        fprintf(stderr, "outside: /%s: %s\n", what, text);
    }
    check(strstr(text, " 200 "));
}

/* ---- cleaning ---- */

static void need(int code, const struct rv_error *e)
{
    if (code != RV_OK) {
        fprintf(stderr, "outside: %s\n", e->text);
    }
    check(code == RV_OK);
}

/* Members whose tests are over may still be within their session. */
static void members_expel(struct rv_client *client, const char *name, const struct rv_group *g)
{
    struct leave_group_request request;
    struct leave_group_request_member member;
    for (size_t i = 0; i < g->member_count; i++) {
        leave_group_request_init(&request);
        leave_group_request_member_init(&member);
        member.member_id = str_of(g->members[i].id);
        if (g->members[i].instance_id) {
            member.group_instance_id = str_of(g->members[i].instance_id);
        }
        request.group_id = str_of(name);
        request.members = &member;
        request.members_count = 1;
        struct ask q = {.client = client,
                        .api_key = LEAVE_GROUP_KEY,
                        .min_version = FIRST_WITH_MEMBERS,
                        .request = &request,
                        .target = ASK_COORDINATOR,
                        .group = name,
                        .deadline_ms = client_now(client) + WAIT_MS,
                        .what = "leave group"};
        struct rv_error e;
        need(ask(&q, &e), &e);
        ask_finish(&q);
    }
}

static void group_remove(struct rv_client *client, const char *name)
{
    struct rv_error e;
    struct rv_group *g;
    int code;
    do {
        need(rv_group_describe(client, name, WAIT_MS, &g, &e), &e);
        members_expel(client, name, g);
        rv_free(g);
        code = rv_group_delete(client, name, WAIT_MS, &e);
    } while (code == KERR_NON_EMPTY_GROUP);
    need(code == KERR_GROUP_ID_NOT_FOUND ? RV_OK : code, &e);
}

/* How many topics of users there are; deletes them. */
static int topics_remove(struct rv_client *client)
{
    struct rv_error e;
    struct rv_topics *topics;
    int count = 0;
    need(rv_topic_list(client, WAIT_MS, &topics, &e), &e);
    for (size_t i = 0; i < topics->count; i++) {
        if (!topics->items[i].internal) {
            int code = rv_topic_delete(client, topics->items[i].name, WAIT_MS, &e);
            need(code == KERR_UNKNOWN_TOPIC_OR_PARTITION ? RV_OK : code, &e);
            count++;
        }
    }
    rv_free(topics);
    return count;
}

void outside_clean(void)
{
    struct rv_client *client;
    struct rv_error e;
    need(rv_client_open(RV_OPTIONS({"bootstrap.servers", outside_address()}), &client, &e), &e);
    struct rv_groups *groups;
    need(rv_group_list(client, WAIT_MS, &groups, &e), &e);
    for (size_t i = 0; i < groups->count; i++) {
        group_remove(client, groups->items[i].group);
    }
    rv_free(groups);
    while (topics_remove(client) > 0) {
    }
    rv_client_close(client);
}
