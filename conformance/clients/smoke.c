/* Smoke test of the NATS door with libnats.
 *
 * Usage: smoke URL. Prints `ok NAME` for each check; prints `RESTART` when it wants the server killed and started
 * again on the same address, and reads a line when that is done. What is checked is the same in every language. */

#include <nats/nats.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PATIENCE_MS 20000
#define MEMBERS 3
#define MESSAGES 300

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static int counts[MEMBERS];
static int drained;
static int in_order = 1;
static int is_back;
static int is_closed;

static void must(natsStatus status, const char *what) {
    if (status != NATS_OK) {
        fprintf(stderr, "%s: %s\n", what, natsStatus_GetText(status));
        exit(1);
    }
}

static void same(int right, const char *what) {
    if (!right) {
        fprintf(stderr, "%s: not as expected\n", what);
        exit(1);
    }
}

static void ok(const char *name) {
    printf("ok %s\n", name);
    fflush(stdout);
}

/* Waits until *flag is set, for as long as the whole program has. */
static void wait_for(int *flag) {
    pthread_mutex_lock(&lock);
    while (!*flag) pthread_cond_wait(&changed, &lock);
    pthread_mutex_unlock(&lock);
}

static void set(int *flag) {
    pthread_mutex_lock(&lock);
    *flag = 1;
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&lock);
}

static void expect(natsSubscription *subscription, const char *subject, const char *payload, int length) {
    natsMsg *message = NULL;
    must(natsSubscription_NextMsg(&message, subscription, PATIENCE_MS), subject);
    same(strcmp(natsMsg_GetSubject(message), subject) == 0, subject);
    same(natsMsg_GetDataLength(message) == length, subject);
    same(memcmp(natsMsg_GetData(message), payload, (size_t)length) == 0, subject);
    natsMsg_Destroy(message);
}

static void publish(natsConnection *connection) {
    static char large[500000];
    natsSubscription *subscription = NULL;
    memset(large, 'x', sizeof large);
    must(natsConnection_SubscribeSync(&subscription, connection, "smoke.c.*"), "subscribe");
    must(natsConnection_Publish(connection, "smoke.c.0", "", 0), "publish");
    must(natsConnection_Publish(connection, "smoke.c.1", "a\r\n\0b", 5), "publish");
    must(natsConnection_Publish(connection, "smoke.c.2", large, sizeof large), "publish");
    expect(subscription, "smoke.c.0", "", 0);
    expect(subscription, "smoke.c.1", "a\r\n\0b", 5);
    expect(subscription, "smoke.c.2", large, sizeof large);
    natsSubscription_Destroy(subscription);
}

static void answer(natsConnection *connection, natsSubscription *subscription, natsMsg *message, void *closure) {
    (void)subscription;
    (void)closure;
    must(natsConnection_Publish(connection, natsMsg_GetReply(message), natsMsg_GetData(message),
                                natsMsg_GetDataLength(message)), "answer");
    natsMsg_Destroy(message);
}

static void request(natsConnection *connection) {
    natsSubscription *service = NULL;
    must(natsConnection_Subscribe(&service, connection, "smoke.echo", answer, NULL), "subscribe");
    for (int number = 0; number < 50; number++) {
        char word[32];
        natsMsg *message = NULL;
        int length = snprintf(word, sizeof word, "word-%d", number);
        must(natsConnection_Request(&message, connection, "smoke.echo", word, length, PATIENCE_MS), "request");
        same(natsMsg_GetDataLength(message) == length && memcmp(natsMsg_GetData(message), word, (size_t)length) == 0, "request");
        natsMsg_Destroy(message);
    }
    natsSubscription_Destroy(service);
}

static void no_responders(natsConnection *connection) {
    natsMsg *message = NULL;
    natsStatus status = natsConnection_Request(&message, connection, "smoke.nobody", "", 0, PATIENCE_MS);
    same(status == NATS_NO_RESPONDERS, "no responders");
}

static void headers(natsConnection *connection) {
    natsSubscription *subscription = NULL;
    natsMsg *message = NULL;
    const char *value = NULL;
    must(natsConnection_SubscribeSync(&subscription, connection, "smoke.headers"), "subscribe");
    must(natsMsg_Create(&message, "smoke.headers", NULL, "body", 4), "message");
    must(natsMsgHeader_Set(message, "Trace", "abc; with=signs"), "header");
    must(natsConnection_PublishMsg(connection, message), "publish");
    natsMsg_Destroy(message);
    must(natsSubscription_NextMsg(&message, subscription, PATIENCE_MS), "headers");
    must(natsMsgHeader_Get(message, "Trace", &value), "header");
    same(strcmp(value, "abc; with=signs") == 0 && natsMsg_GetDataLength(message) == 4, "headers");
    natsMsg_Destroy(message);
    natsSubscription_Destroy(subscription);
}

static void count(natsConnection *connection, natsSubscription *subscription, natsMsg *message, void *closure) {
    (void)connection;
    (void)subscription;
    pthread_mutex_lock(&lock);
    ++*(int *)closure;
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&lock);
    natsMsg_Destroy(message);
}

static void queue_group(natsConnection *connection) {
    natsSubscription *members[MEMBERS];
    for (int place = 0; place < MEMBERS; place++)
        must(natsConnection_QueueSubscribe(&members[place], connection, "smoke.work", "workers", count, &counts[place]),
             "subscribe");
    for (int number = 0; number < MESSAGES; number++)
        must(natsConnection_Publish(connection, "smoke.work", "x", 1), "publish");
    pthread_mutex_lock(&lock);
    while (counts[0] + counts[1] + counts[2] < MESSAGES) pthread_cond_wait(&changed, &lock);
    pthread_mutex_unlock(&lock);
    must(natsConnection_Flush(connection), "flush");
    same(counts[0] + counts[1] + counts[2] == MESSAGES && counts[0] && counts[1] && counts[2], "queue group");
    for (int place = 0; place < MEMBERS; place++) natsSubscription_Destroy(members[place]);
}

static void returned(natsConnection *connection, void *closure) {
    (void)connection;
    (void)closure;
    set(&is_back);
}

static void reconnect(natsConnection *connection) {
    char line[64];
    natsSubscription *subscription = NULL;
    must(natsConnection_SubscribeSync(&subscription, connection, "smoke.again"), "subscribe");
    must(natsConnection_Flush(connection), "flush");
    printf("RESTART\n");
    fflush(stdout);
    same(fgets(line, sizeof line, stdin) != NULL, "restart");
    wait_for(&is_back);
    must(natsConnection_Publish(connection, "smoke.again", "back", 4), "publish");
    expect(subscription, "smoke.again", "back", 4);
    natsSubscription_Destroy(subscription);
}

static void take(natsConnection *connection, natsSubscription *subscription, natsMsg *message, void *closure) {
    (void)connection;
    (void)subscription;
    (void)closure;
    pthread_mutex_lock(&lock);
    in_order = in_order && atoi(natsMsg_GetData(message)) == drained;
    drained++;
    pthread_mutex_unlock(&lock);
    natsMsg_Destroy(message);
}

static void closed(natsConnection *connection, void *closure) {
    (void)connection;
    (void)closure;
    set(&is_closed);
}

static void drain(natsConnection *connection, const char *url) {
    natsConnection *other = NULL;
    natsSubscription *subscription = NULL;
    must(natsConnection_ConnectTo(&other, url), "connect");
    must(natsConnection_Subscribe(&subscription, connection, "smoke.drain", take, NULL), "subscribe");
    must(natsConnection_Flush(connection), "flush");
    for (int number = 0; number < 200; number++) {
        char word[16];
        int length = snprintf(word, sizeof word, "%d", number);
        must(natsConnection_Publish(other, "smoke.drain", word, length), "publish");
    }
    must(natsConnection_Flush(other), "flush");
    must(natsConnection_Drain(connection), "drain");
    wait_for(&is_closed);
    same(drained == 200 && in_order, "drain");
    natsSubscription_Destroy(subscription);
    natsConnection_Destroy(other);
}

int main(int argc, char **argv) {
    natsOptions *options = NULL;
    natsConnection *connection = NULL;
    same(argc == 2, "usage: smoke URL");
    must(natsOptions_Create(&options), "options");
    must(natsOptions_SetURL(options, argv[1]), "options");
    must(natsOptions_SetName(options, "smoke.c"), "options");
    must(natsOptions_SetReconnectWait(options, 50), "options");
    must(natsOptions_SetMaxReconnect(options, 400), "options");
    must(natsOptions_SetReconnectedCB(options, returned, NULL), "options");
    must(natsOptions_SetClosedCB(options, closed, NULL), "options");
    must(natsConnection_Connect(&connection, options), "connect");
    ok("connect");
    publish(connection);
    ok("publish");
    request(connection);
    ok("request");
    no_responders(connection);
    ok("no_responders");
    headers(connection);
    ok("headers");
    queue_group(connection);
    ok("queue_group");
    reconnect(connection);
    ok("reconnect");
    drain(connection, argv[1]);
    ok("drain");
    natsConnection_Destroy(connection);
    natsOptions_Destroy(options);
    nats_Close();
    return 0;
}
