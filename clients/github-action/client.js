// Run the Python client that lies in this very repository, and talk to the runner by its file commands.
//
// Promises:
// * No dependency, no download, no bundling: what runs is what is read here, at the commit the workflow pins.
// * Nothing secret passes through this process: the client itself masks, and writes to the runner's files.
// * Inputs reach the client as separate arguments, never through a shell.
"use strict";

const { spawnSync } = require("node:child_process");
const { randomBytes } = require("node:crypto");
const fs = require("node:fs");
const path = require("node:path");

const SOURCE = path.resolve(__dirname, "..", "python");

// -I: neither PYTHON* variables nor the working directory (the checkout!) decide which code is imported.
const START = "import sys; sys.path.insert(0, sys.argv.pop(1)); from jobkey.cli import entry; entry()";

function input(name) {
  return (process.env[`INPUT_${name.toUpperCase()}`] || "").trim();
}

// The arguments that start the client; `jobkey` on PATH uses the same ones.
function command(python) {
  return [python, "-I", "-B", "-c", START, SOURCE];
}

function jobkey(python, args, extra) {
  const [program, ...rest] = command(python);
  const done = spawnSync(program, [...rest, ...args], {
    stdio: ["ignore", "inherit", "inherit"],
    env: { ...process.env, ...extra },
  });
  if (done.error) {
    console.error(`jobkey: ${python} cannot be started: ${done.error.code}`);
    return 127;
  }
  return done.status === null ? 1 : done.status;
}

// Append one value to a file command. The delimiter is fresh, so that no value can end it (CVE-2022-35954).
function tell(file, name, value) {
  const where = process.env[file];
  if (!where) throw new Error(`${file} is not set: this is no GitHub or Forgejo job`);
  const end = `jobkey_${randomBytes(16).toString("hex")}`;
  if (value.includes(end)) throw new Error("a value cannot be told to the runner");
  fs.appendFileSync(where, `${name}<<${end}\n${value}\n${end}\n`);
}

module.exports = { command, input, jobkey, tell };
