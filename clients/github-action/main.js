// Put `jobkey` on PATH, and get the grants that were asked for.
"use strict";

const fs = require("node:fs");
const path = require("node:path");
const { command, input, jobkey, tell } = require("./client.js");

function quoted(word) {
  return `'${word.replaceAll("'", "'\\''")}'`;
}

// A small `jobkey` in a directory of this job alone, for the `jobkey exec` of later steps.
function install(python) {
  const bin = fs.mkdtempSync(path.join(process.env.RUNNER_TEMP || "/tmp", "jobkey-bin-"));
  fs.writeFileSync(path.join(bin, "jobkey"), `#!/bin/sh\nexec ${command(python).map(quoted).join(" ")} "$@"\n`, {
    mode: 0o755,
  });
  fs.appendFileSync(process.env.GITHUB_PATH, `${bin}\n`);
  return bin;
}

function main() {
  const python = input("python") || "python3";
  const settings = {};
  if (input("broker")) settings.JOBKEY_URL = input("broker");
  if (input("ca-file")) settings.JOBKEY_CA_FILE = path.resolve(input("ca-file"));
  for (const [name, value] of Object.entries(settings)) tell("GITHUB_ENV", name, value);
  tell("GITHUB_STATE", "settings", JSON.stringify(settings));
  tell("GITHUB_STATE", "python", python);

  const bin = install(python);
  tell("GITHUB_STATE", "bin", bin);

  const grants = input("grants").split(/\s+/).filter(Boolean);
  const where = input("export") || "none";
  if (!["env", "file", "none"].includes(where)) throw new Error("export is one of env, file, none");
  if (grants.some((grant) => grant.startsWith("-"))) throw new Error("a grant is written policy/grant");
  if (where === "none" || grants.length === 0) return 0;

  const args = ["get", ...grants];
  if (input("ttl")) args.push("--ttl", input("ttl"));
  if (input("prefix") === "true") args.push("--prefix");
  if (where === "env") args.push("--format", "github-env");
  else {
    const file = path.join(bin, "credentials.json"); // mkdtemp made the directory with mode 0700
    args.push("--format", "json", "--output", file);
    tell("GITHUB_OUTPUT", "file", file);
  }
  return jobkey(python, args, settings);
}

try {
  process.exitCode = main();
} catch (error) {
  console.error(`jobkey: ${error.message}`);
  process.exitCode = 64;
}
