// When the job ends, whatever its outcome: revoke what it was given, and remove the files. Never fails the job.
"use strict";

const fs = require("node:fs");
const { jobkey } = require("./client.js");

try {
  jobkey(process.env.STATE_python || "python3", ["revoke"], JSON.parse(process.env.STATE_settings || "{}"));
  if (process.env.STATE_bin) fs.rmSync(process.env.STATE_bin, { recursive: true, force: true });
} catch (error) {
  console.error(`jobkey: ${error.message}`);
}
process.exitCode = 0;
