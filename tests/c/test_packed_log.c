/* Packed logs: what is packed comes back, in few bytes, and bytes that are no log end it. */
#include "packed_log.h"

#include "testing.h"

enum { NR = 3000 };

static uint64_t draw(uint64_t *state, uint64_t below)
{
	*state = *state * 6364136223846793005 + 1442695040888963407;
	return (*state >> 33) % below;
}

/* Entries of so many kinds, with numbers of visits below `most`. */
static void make(struct rmf_visits *log, uint32_t kinds, uint64_t most, uint64_t seed)
{
	for (uint64_t i = 0; i < NR; i++) {
		const uint64_t kind = draw(&seed, kinds);

		memset(&log[i], 0, sizeof(log[i]));
		log[i].nr = 1 + draw(&seed, most);
		log[i].order = (uint8_t)(kind % 14);
		log[i].cpumask = kind / 14;
		log[i].outcome = (uint8_t)(kind % 3);
		log[i].listed = kind & 1;
		log[i].folio = (uint32_t)i;
	}
}

static void test_round_trip(void)
{
	static struct rmf_visits log[NR];
	static uint8_t bytes[NR * 64];
	static const uint32_t kinds[] = { 1, 3, 7, 8, 50 };
	static const uint64_t most[] = { 1, 31, 32, 5000, UINT32_MAX };

	for (uint32_t i = 0; i < 25; i++) {
		struct rmf_packed_log packed = { 0 };
		struct rmf_visits visits;
		uint64_t size, nr = 0;

		make(log, kinds[i % 5], most[i / 5], i);
		if (i == 24)
			log[5].nr = UINT64_MAX >> 1;
		size = rmf_pack_log(log, NR, NULL);
		expect(size <= sizeof(bytes), "room");
		expect_eq((int64_t)rmf_pack_log(log, NR, bytes), (int64_t)size, "size");
		packed.bytes = bytes;
		packed.nr = size;
		for (; rmf_unpack_visits(&packed, &visits); nr++)
			expect(nr < NR && visits.nr == log[nr].nr &&
				       rmf_visits_equal(&visits, &log[nr]),
			       "entry");
		expect_eq((int64_t)nr, NR, "entries");
		if (kinds[i % 5] <= RMF_LOG_KINDS && most[i / 5] <= 31)
			expect(size <= NR + RMF_LOG_KINDS * (1 + sizeof(*log)), "a byte an entry");
	}
}

static void test_no_log(void)
{
	uint8_t bytes[200];
	uint64_t seed = 1;

	for (uint32_t i = 0; i < 2000; i++) {
		struct rmf_packed_log packed = { .bytes = bytes, .nr = i % (sizeof(bytes) + 1) };
		struct rmf_visits visits;
		uint64_t nr = 0;

		for (uint64_t at = 0; at < sizeof(bytes); at++)
			bytes[at] = (uint8_t)(draw(&seed, 3) ? draw(&seed, 256) : 0xff);
		while (rmf_unpack_visits(&packed, &visits))
			nr++;
		expect(nr <= i % (sizeof(bytes) + 1), "an entry takes a byte or more");
	}
}

int main(void)
{
	run_test("round trip", test_round_trip);
	run_test("bytes that are no log", test_no_log);
	return report("test_packed_log");
}
