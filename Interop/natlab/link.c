// A network link between two namespaces, with a delay, a rate and loss: what netem does, where the kernel has none.
//
//   link NAMESPACE:DEVICE NAMESPACE:DEVICE [--delay MS] [--rate MBIT] [--loss PERCENT] [--queue KIB] [--seed N]
//
// makes a TUN device in each of the two namespaces (paths like /run/netns/NAME) and moves packets between them until it is
// ended by a signal. Prints "ready" once both devices exist. DELAY is one way and acts in both directions, as do RATE and LOSS.
// Per direction: a packet leaves when those before it have left at the given rate, is dropped when more than QUEUE waits to
// leave, and arrives DELAY later. At the end the packets carried, lost and dropped are printed.

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

enum {
    packet_limit = 1600,    // octets of one packet; the devices' MTU is 1500
    slot_count = 1 << 16,   // packets on their way in one direction, at most
    batch = 64,             // packets read from one device before the other is looked at
    grain = 50 * 1000,      // ns: packets that are due so close together are delivered by one wake-up
};

struct slot {
    uint64_t due; // ns
    uint32_t length;
    uint8_t octets[packet_limit];
};

struct direction {
    int from, to;
    struct slot *slots;
    uint32_t *order, head, count; // a ring of the places of those on their way
    uint32_t *unused;             // a stack of the other places, so that few slots are used and stay in the cache
    uint64_t sent_until; // ns: when the last packet has left at the link's rate
    uint64_t carried, lost, dropped;
};

static uint64_t delay_ns, queue_ns, random_state = 88172645463325252ull;
static double ns_per_octet, loss;
static volatile sig_atomic_t ended;

static void end(int signal) {
    (void)signal;
    ended = 1;
}

static void fail(const char *what) {
    fprintf(stderr, "link: %s: %s\n", what, strerror(errno));
    exit(1);
}

static uint64_t now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000ull + (uint64_t)now.tv_nsec;
}

static double random_unit(void) {
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return (double)(random_state >> 11) / 9007199254740992.0;
}

// `place` is NAMESPACE:DEVICE.
static int open_device(char *place) {
    char *name = strrchr(place, ':');
    if (!name) {
        errno = EINVAL;
        fail(place);
    }
    *name++ = 0;
    int namespace = open(place, O_RDONLY | O_CLOEXEC);
    if (namespace < 0 || setns(namespace, CLONE_NEWNET) < 0) fail(place);
    close(namespace);
    int device = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
    if (device < 0) fail("/dev/net/tun");
    struct ifreq request = {.ifr_flags = IFF_TUN | IFF_NO_PI};
    strncpy(request.ifr_name, name, IFNAMSIZ - 1);
    if (ioctl(device, TUNSETIFF, &request) < 0) fail(name);
    return device;
}

static void take(struct direction *d, uint64_t now) {
    for (int i = 0; i < batch; i++) {
        uint8_t unwanted[packet_limit];
        int is_full = d->count == slot_count;
        uint32_t place = is_full ? 0 : d->unused[slot_count - 1 - d->count];
        struct slot *slot = &d->slots[place];
        ssize_t length = read(d->from, is_full ? unwanted : slot->octets, packet_limit);
        if (length <= 0) return; // nothing there; a device that is down gives an error, too, until it is up
        if (is_full) {
            d->dropped++;
            continue;
        }
        uint64_t begin = d->sent_until > now ? d->sent_until : now;
        if (begin - now > queue_ns) {
            d->dropped++;
            continue;
        }
        d->sent_until = begin + (uint64_t)((double)length * ns_per_octet);
        if (loss > 0 && random_unit() < loss) {
            d->lost++;
            continue;
        }
        slot->due = d->sent_until + delay_ns;
        slot->length = (uint32_t)length;
        d->order[(d->head + d->count) % slot_count] = place;
        d->count++;
    }
}

static void deliver(struct direction *d, uint64_t now) {
    while (d->count > 0 && d->slots[d->order[d->head]].due <= now) {
        struct slot *slot = &d->slots[d->order[d->head]];
        if (write(d->to, slot->octets, slot->length) == (ssize_t)slot->length)
            d->carried++;
        else
            d->dropped++; // the other side is down, or the namespace takes no more
        d->count--;
        d->unused[slot_count - 1 - d->count] = d->order[d->head];
        d->head = (d->head + 1) % slot_count;
    }
}

// A link does not wait for the programs that use it. Where the kernel schedules sessions as groups, priority counts only inside of
// one: so it has a session of its own, with a priority of its own.
static void hurry(void) {
    setpriority(PRIO_PROCESS, 0, -15);
    setsid();
    int group = open("/proc/self/autogroup", O_WRONLY | O_CLOEXEC);
    if (group < 0) return;
    if (write(group, "-15", 3) < 0) perror("link: autogroup");
    close(group);
}

int main(int argc, char **argv) {
    if (argc < 3) {
        fprintf(stderr, "usage: link NAMESPACE:DEVICE NAMESPACE:DEVICE [--delay MS] [--rate MBIT] [--loss PERCENT] [--queue KIB] "
                        "[--seed N]\n");
        return 64;
    }
    double delay = 0, rate = 1000, percent = 0, queue = 1024;
    for (int i = 3; i + 1 < argc; i += 2) {
        double value = atof(argv[i + 1]);
        if (!strcmp(argv[i], "--delay")) delay = value;
        else if (!strcmp(argv[i], "--rate")) rate = value;
        else if (!strcmp(argv[i], "--loss")) percent = value;
        else if (!strcmp(argv[i], "--queue")) queue = value;
        else if (!strcmp(argv[i], "--seed")) random_state ^= (uint64_t)value * 0x9e3779b97f4a7c15ull;
        else {
            fprintf(stderr, "link: unknown option %s\n", argv[i]);
            return 64;
        }
    }
    ns_per_octet = 8000.0 / rate;
    delay_ns = (uint64_t)(delay * 1e6);
    queue_ns = (uint64_t)(queue * 1024 * ns_per_octet);
    loss = percent / 100;

    int one = open_device(argv[1]), other = open_device(argv[2]);
    struct direction directions[2] = {{.from = one, .to = other}, {.from = other, .to = one}};
    for (int i = 0; i < 2; i++) {
        struct direction *d = &directions[i];
        d->slots = calloc(slot_count, sizeof *d->slots);
        d->order = calloc(slot_count, sizeof *d->order);
        d->unused = calloc(slot_count, sizeof *d->unused);
        if (!d->slots || !d->order || !d->unused) fail("memory");
        for (uint32_t place = 0; place < slot_count; place++) d->unused[place] = place;
    }
    prctl(PR_SET_TIMERSLACK, 1);
    hurry();
    // Signals come while it waits and at no other time: one between the look at `ended` and the wait would be slept over.
    sigset_t ending, none;
    sigemptyset(&ending);
    sigemptyset(&none);
    sigaddset(&ending, SIGTERM);
    sigaddset(&ending, SIGINT);
    sigprocmask(SIG_BLOCK, &ending, NULL);
    signal(SIGTERM, end);
    signal(SIGINT, end);
    printf("ready\n");
    fflush(stdout);

    while (!ended) {
        uint64_t now = now_ns(), next = UINT64_MAX;
        for (int i = 0; i < 2; i++) {
            deliver(&directions[i], now);
            struct direction *d = &directions[i];
            if (d->count > 0 && d->slots[d->order[d->head]].due < next) next = d->slots[d->order[d->head]].due;
        }
        struct timespec wait, *until = NULL;
        if (next != UINT64_MAX) {
            uint64_t left = next > now + grain ? next - now : grain;
            wait = (struct timespec){.tv_sec = (time_t)(left / 1000000000ull), .tv_nsec = (long)(left % 1000000000ull)};
            until = &wait;
        }
        struct pollfd polled[2] = {{.fd = one, .events = POLLIN}, {.fd = other, .events = POLLIN}};
        if (ppoll(polled, 2, until, &none) < 0 && errno != EINTR) fail("ppoll");
        now = now_ns();
        for (int i = 0; i < 2; i++)
            if (polled[i].revents & POLLIN) take(&directions[i], now);
            else if (polled[i].revents) usleep(1000); // the device is not up yet
    }
    for (int i = 0; i < 2; i++)
        fprintf(stderr, "link: %s: %lu carried, %lu lost, %lu dropped\n", i ? "backward" : "forward",
                (unsigned long)directions[i].carried, (unsigned long)directions[i].lost, (unsigned long)directions[i].dropped);
    return 0;
}
