// The event loop with timers and promises, file operations in libuv's threads, and two worker threads with a channel each.
'use strict';
const fs = require('fs');
const { Worker, isMainThread, parentPort, workerData } = require('worker_threads');
const note = text => fs.appendFileSync(process.env.STEPS_LOG, text + '\n');
const fail = text => { note('FAIL ' + text); process.exit(97); };
const stopping = () => fs.existsSync(process.env.STEPS_STOP);

if (!isMainThread) {
  // Computes what it is asked for; its steps are its own.
  let n = 0;
  parentPort.on('message', value => {
    if (value === null) return process.exit(0);
    note(`p worker${workerData} ${++n}`);
    parentPort.postMessage(value * value);
  });
} else {
  const asked = [0, 0], got = [0, 0];
  const workers = [0, 1].map(i => {
    const worker = new Worker(__filename, { workerData: i });
    worker.on('error', e => fail('worker ' + e));
    worker.on('message', value => {
      if (value !== asked[i] * asked[i]) fail(`worker ${i} says ${value} for ${asked[i]}`);
      got[i]++;
      setTimeout(() => worker.postMessage(++asked[i]), 10);
    });
    worker.postMessage(++asked[i]);
    return worker;
  });
  let timer = 0, pooled = 0, ended = false;
  const sleep = ms => new Promise(resolve => setTimeout(resolve, ms));
  const pool = (async () => {
    while (!ended) {
      // A file of its own: a restart goes back to before what a killed run has written.
      const name = `pooled.${++pooled}`;
      await fs.promises.writeFile(name, String(pooled));
      const text = await fs.promises.readFile(name, 'utf8');
      if (text !== String(pooled)) fail(`read ${text} instead of ${pooled}`);
      note(`p pooled ${pooled}`);
      await sleep(10);
    }
  })();
  const interval = setInterval(() => {
    note(`p timer ${++timer}`);
    if (!stopping()) return;
    clearInterval(interval);
    ended = true;
    pool.then(() => {
      if (got.some(n => n < 1)) fail('a worker did nothing');
      note('DONE');
      process.exit(7);
    });
  }, 10);
}
