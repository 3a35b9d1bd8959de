// The pool's rows by node's worker_threads: node node.js [ROW...].
//
// Prints `row<TAB>median<TAB>unit`, nothing for a row it lacks; ../README.md
// says what each row is. Node has
// no pool: this one posts a message per chunk to one of its workers in turn. A
// thread takes no function along, so the jobs are named.
'use strict';
const { Worker, isMainThread, parentPort } = require('worker_threads');

function sumOfFactors(n) {
  let total = 0;
  for (let divisor = 2; divisor * divisor <= n; divisor += divisor === 2 ? 1 : 2) {
    for (; n % divisor === 0; n /= divisor) total += divisor;
  }
  return n > 1 ? total + n : total;
}

const functions = {
  echo: (x) => x,
  square: (x) => x * x,
  squareOfSum: ([x, y]) => (x + y) ** 2,
  sumOfFactors,
};

class Pool {
  constructor() {
    this.workers = [new Worker(__filename), new Worker(__filename)];
  }

  // Resolves to the results in order.
  map(name, list, chunk) {
    return new Promise((resolve) => {
      const results = new Array(list.length);
      let left = list.length;
      const receive = ([from, values]) => {
        for (let i = 0; i < values.length; i++) results[from + i] = values[i];
        left -= values.length;
        if (left === 0) resolve(results);
      };
      for (const worker of this.workers) {
        worker.removeAllListeners('message');
        worker.on('message', receive);
      }
      for (let from = 0, turn = 0; from < list.length; from += chunk, turn++) {
        this.workers[turn % 2].postMessage([name, from, list.slice(from, from + chunk)]);
      }
    });
  }

  close() {
    return Promise.all(this.workers.map((worker) => worker.terminate()));
  }
}

// The hundred numbers from 10^10 to 10^12 that each peer factors.
function numbers() {
  let x = 7n;
  const below = (n) => {
    x = (1664525n * x + 1013904223n) % (1n << 32n);
    return (x * n) >> 32n;
  };
  return Array.from({ length: 100 }, () => {
    const high = below(1n << 31n), low = below(1n << 31n);
    return Number(10n ** 10n + ((high << 31n) + low) % (10n ** 12n - 10n ** 10n + 1n));
  });
}

const first = (count, make = (i) => i) => Array.from({ length: count }, (_, i) => make(i));

async function measure(row, unit, perSecond, samples, call) {
  const seconds = [];
  for (let i = 0; i < samples; i++) {
    const started = process.hrtime.bigint();
    await call();
    seconds.push(Number(process.hrtime.bigint() - started) / 1e9);
  }
  seconds.sort((a, b) => a - b);
  const median = seconds[samples >> 1] * perSecond;
  console.log(`${row}\t${Number(median.toPrecision(4))}\t${unit}`);
}

async function withPool(run) {
  const pool = new Pool();
  await pool.map('echo', first(1000), 1);
  await run(pool);
  await pool.close();
}

const rows = {
  pool_start: () => measure('pool_start', 'ms', 1e3, 9, async () => {
    const pool = new Pool();
    await pool.map('echo', [1], 1);
    await pool.close();
  }),
  pool_apply: () => withPool((pool) => measure('pool_apply', 'us', 1e6 / 500, 9, async () => {
    for (let i = 0; i < 500; i++) await pool.map('echo', [i], 1);
  })),
  pool_jobs: () => withPool((pool) => measure('pool_jobs', 'us/job', 1e6 / 1e4, 9,
    () => pool.map('echo', first(1e4), 1))),
  pool_batched: () => withPool((pool) => measure('pool_batched', 'us/job', 1e6 / 1e4, 9,
    () => pool.map('echo', first(1e4), 100))),
  map_squares: () => withPool((pool) => measure('map_squares', 'ms', 1e3, 9,
    () => pool.map('square', first(1e5), 5e4))),
  map_starmap: () => {
    const pairs = first(1e6, (i) => [i, i + 1]);
    return withPool((pool) => measure('map_starmap', 'ms', 1e3, 3,
      () => pool.map('squareOfSum', pairs, 5e5)));
  },
  pool_factor_once: () => {
    const hundred = numbers();
    return withPool((pool) => measure('pool_factor_once', 'ms', 1e3, 9, async () => {
      const sums = await pool.map('sumOfFactors', hundred, 1);
      const sum = sums.reduce((a, b) => a + b);
      if (sum !== 1461938895871) throw new Error(`sum of factors is ${sum}`);
    }));
  },
};

if (isMainThread) {
  (async () => {
    const names = process.argv.slice(2);
    for (const name of names.length > 0 ? names : Object.keys(rows)) {
      if (rows[name]) await rows[name]();
    }
  })();
} else {
  parentPort.on('message', ([name, from, values]) => {
    parentPort.postMessage([from, values.map(functions[name])]);
  });
}
